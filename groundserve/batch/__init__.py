"""Scoring a corpus: a manifest of (video, question) rows, a run directory that resumes, Ray between.

`rows` reads manifests, `keys` tells what decides a row's result, `plan` finds what is left to do and
cuts it into units, `run_directory` holds what is done, `shards` its Parquet files, `journal` and
`events` what happened, `records` the reference's lines, `status` a look from outside.
"""
