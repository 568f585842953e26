"""Scoring a corpus: a manifest of videos and questions, and a run directory that resumes.

`rows` reads manifests, `keys` tells what decides a row's result, `plan` finds what is left to do,
`job` has it done by Ray's actors, `run_directory` holds what is done, `shards` its Parquet files,
`journal` and `events` what happened, `records` the reference's lines, and `status` is a look from
outside.
"""
