"""Jobs: their specification, queue, workers and limits."""
