# Read by the build of llama-cpp-python behind its project(), in place of its own directions (LLAMA_BUILD=OFF): ggml alone, as those
# would build it. llama.cpp, which nothing here uses, is most of the whole: some 160 of 190 files.
set(BUILD_SHARED_LIBS ON)
set(GGML_LLAMAFILE ON CACHE BOOL "llama.cpp's default")
set(CMAKE_INSTALL_LIBDIR llama_cpp/lib CACHE PATH "beside the bindings")
set(CMAKE_INSTALL_INCLUDEDIR llama_cpp/include CACHE PATH "beside the bindings")
add_subdirectory(vendor/llama.cpp/ggml)
