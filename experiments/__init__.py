"""The paper's experiments on this package, and the benchmarks of its speed."""
