"""Numbers by step: columnar series, min-max buckets, ingest of the files runs publish."""
