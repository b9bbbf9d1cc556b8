// onednn.cc: oneDNN's matrix product with packed weights, behind four C functions; onednn_peer.py builds and loads it.
//
// int8: rows of uint8 codes by a weight of int8, a scale for each output, float32 out: the codes are there already.
// float32: the same on floats.  Both have the layout of the weight that oneDNN likes best, made once.
#include <omp.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

using dnnl::memory;

namespace {

struct Product {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    dnnl::matmul primitive;
    std::unordered_map<int, memory> arguments;
    memory rows, out;
    int threads = 1;
};

memory filled(const dnnl::engine &engine, const memory::desc &desc, const void *data)
{
    memory result(desc, engine);
    std::memcpy(result.get_data_handle(), data, desc.get_size());
    return result;
}

memory packed(Product &product, const memory::desc &plain, const memory::desc &wanted, const void *data)
{
    memory source = filled(product.engine, plain, data), result(wanted, product.engine);
    dnnl::reorder(source, result).execute(product.stream, source, result);
    product.stream.wait();
    return result;
}

} // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// weight [n][k]: int8 codes with scales [n] where `scales` is given, else float32; x [m][k]: uint8 codes or float32.
EXPORTED void *onednn_product(int threads, int m, int n, int k, const void *weight, const float *scales, const void *x)
{
    try {
        omp_set_num_threads(threads);
        auto product = std::make_unique<Product>();
        product->threads = threads;
        auto code = scales ? memory::data_type::s8 : memory::data_type::f32;
        auto row = scales ? memory::data_type::u8 : memory::data_type::f32;
        memory::desc rows({m, k}, row, memory::format_tag::ab), any({k, n}, code, memory::format_tag::any);
        memory::desc plain({k, n}, code, memory::format_tag::ba);
        memory::desc out({m, n}, memory::data_type::f32, memory::format_tag::ab);
        dnnl::primitive_attr attributes;
        if (scales) attributes.set_scales_mask(DNNL_ARG_WEIGHTS, 1 << 1);
        dnnl::matmul::primitive_desc description(product->engine, rows, any, out, attributes);
        product->primitive = dnnl::matmul(description);
        product->rows = filled(product->engine, rows, x);
        product->out = memory(out, product->engine);
        product->arguments = {{DNNL_ARG_SRC, product->rows},
                              {DNNL_ARG_WEIGHTS, packed(*product, plain, description.weights_desc(), weight)},
                              {DNNL_ARG_DST, product->out}};
        if (scales) {
            memory::desc of_scales({n}, memory::data_type::f32, memory::format_tag::a);
            product->arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS] = filled(product->engine, of_scales, scales);
        }
        return product.release();
    } catch (const std::exception &) {
        return nullptr;
    }
}

EXPORTED void onednn_run(void *handle)
{
    auto *product = static_cast<Product *>(handle);
    omp_set_num_threads(product->threads);
    product->primitive.execute(product->stream, product->arguments);
    product->stream.wait();
}

EXPORTED const float *onednn_result(void *handle)
{ return static_cast<const float *>(static_cast<Product *>(handle)->out.get_data_handle()); }

EXPORTED void onednn_free(void *handle) { delete static_cast<Product *>(handle); }
