"""Parts of the benchmarks: what is compared, what is measured, and how it is shown."""
