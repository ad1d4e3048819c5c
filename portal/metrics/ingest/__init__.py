"""One file format per module; `read_metric_file` and `read_evaluation_file` choose."""
