"""What `qlm bench` and benchmarks/ measure: qlm's kernels and models beside this machine's own limits and, where a
caller adds them, other libraries.  Every figure of a row comes from one interleaved run (qlm.timing)."""
