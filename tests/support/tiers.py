"""Which tests `make test` leaves to `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.support.reference import REPOSITORY

THOROUGH = (
    # Full-size networks, and what else takes a builder long.
    "tests/build/test_build_gpu.py",
    "tests/build/test_monitoring.py",
    "tests/build/test_deploy.py::test_compose_files_fit",
    "tests/build/test_image_locks.py",
    "tests/build/test_int8.py",
    "tests/build/test_tensorrt_export.py",
    "tests/build/test_tensorrt_full_size.py",
    "tests/build/test_tensorrt_plan.py",
    "tests/build/test_text_engines.py",
    "tests/build/test_vllm_export.py::test_a_directory",
    "tests/build/test_vllm_export.py::test_on_a_gpu",
    "tests/docs",
    "tests/families/test_blocks_family.py",
    "tests/families/test_segments_family.py",
    # A stage of a family by itself: whole answers are in the first tier.
    "tests/parity/test_vtgllm_stages.py",
    "tests/parity/test_vtimellm_features.py",
    "tests/unit/families/grounded_videollm/test_vision.py",
    # Stages and PyTorch beside recordings, where whole answers of engines are in the first tier.
    "tests/cli/test_ask_grounded.py::test_recorded_cases_in_pytorch",
    "tests/cli/test_ask_reference.py::test_recorded_cases_in_pytorch",
    "tests/cli/test_ask_vtgllm.py::test_recorded_cases_in_pytorch",
    "tests/parity/test_grounded_videollm.py::test_every_case_is_the_references[checkpoint",
    "tests/parity/test_vtgllm.py::test_every_stage_is_the_references",
    "tests/parity/test_vtimellm.py::test_every_stage_is_the_references",
    # vLLM, which `make test` does without: it has an environment of its own.
    "tests/parity/test_vllm.py",
    # Ray, several trainers, kills and signals in long work.
    "tests/batch",
    "tests/cli/test_batch_processes.py",
    "tests/triton/test_annotate.py",
    "tests/unit/annotate/test_stages.py::test_a_reply",
    "tests/unit/annotate/test_stages.py::test_an_endpoint",
    "tests/unit/annotate/test_stages.py::test_cut",
    "tests/unit/annotate/test_stages.py::test_ours",
    "tests/unit/annotate/test_stages.py::test_the_answer",
    "tests/unit/annotate/test_stages.py::test_the_type",
    "tests/cli/test_train.py::test_sigterm",
    "tests/train/test_parallel.py",
    "tests/train/test_recipe.py",
    "tests/train/test_stop.py",
    "tests/train/test_text_recipe.py",
    "tests/train/test_validation.py",
    "tests/unit/batch/test_crashes.py",
    # Of what families share one is in the first tier.
    "tests/unit/train/families/test_recorded_steps.py::test_mistakes",
    "tests/unit/train/families/test_recorded_steps.py::test_other_new_rows",
    "tests/unit/train/families/test_recorded_steps.py::test_steps_are_the_references[grounded",
    "tests/unit/train/families/test_recorded_steps.py::test_steps_are_the_references[vtgllm",
    "tests/unit/train/families/test_recorded_steps.py::test_files_are_the_references[grounded",
    "tests/unit/train/families/test_recorded_steps.py::test_files_are_the_references[vtgllm",
    "tests/unit/train/test_loop.py::test_resumed_run_equals_an_uninterrupted_one[grounded-",
    "tests/unit/train/test_loop.py::test_resumed_run_equals_an_uninterrupted_one[vtgllm-",
    "tests/unit/train/test_loop.py::test_resumed_run_equals_an_uninterrupted_one[vtimellm-1",
    "tests/unit/train/test_loop.py::test_resumed_run_equals_an_uninterrupted_one[vtimellm-3",
    "tests/unit/train/test_unreadable.py",
    # A browser, with servers of its own.
    "tests/page",
    # Pages and comparisons from their beginning to their end.
    "tests/unit/gateway/test_schema.py",
    "tests/cli/test_ask_grounded.py::test_a_checkpoint_as_published_with_wider_towers",
    "tests/cli/test_download.py",
    "tests/cli/test_eval_paired.py",
    "tests/cli/test_train_your_own.py",
    "tests/unit/benchmarks/test_gpu_small_run.py",
    # Servers of other checkpoints and profiles than one a family, and a server's rarer ends.
    "tests/triton/test_aborts.py",
    "tests/triton/test_answers.py::test_recorded_cases_of_other_adapters",
    "tests/triton/test_cache.py::test_restarted_server",
    "tests/triton/test_cancellation.py::test_cancelling_the_task",
    "tests/triton/test_cancellation.py::test_closing_the_client_from_another_thread",
    "tests/triton/test_dali.py",
    "tests/triton/test_descriptors.py",
    "tests/triton/test_gateway.py::test_a_killed_server",
    "tests/triton/test_gateway.py::test_chat_gives",
    "tests/triton/test_gateway.py::test_jobs_outlive",
    "tests/triton/test_gateway.py::test_recorded_cases",
    "tests/triton/test_gateway.py::test_sighup",
    "tests/triton/test_grounded.py::test_recorded_cases_of_the_other_decoder",
    "tests/triton/test_int8.py",
    "tests/triton/test_monitoring.py",
    "tests/triton/test_names.py",
    "tests/triton/test_parity.py::test_logits_are_float64s[videoitg-pad",
    "tests/triton/test_rebuilt.py",
    "tests/triton/test_replaced_processes.py",
    "tests/triton/test_scoring.py::test_torch_profile",
    "tests/triton/test_shared_memory.py",
    "tests/triton/test_supervision.py::test_front_killed",
    "tests/triton/test_supervision.py::test_model",
    "tests/triton/test_supervision.py::test_server",
    "tests/triton/test_supervision.py::test_sigterm",
    "tests/triton/test_trained.py",
    "tests/triton/test_trained_text.py",
    "tests/triton/test_vllm.py",
    "tests/triton/test_vtgllm.py::test_recorded_cases_of_other_configurations",
)
"""Folders, files and tests, as the beginning of a test's id."""


def mark_thorough(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that `THOROUGH` names."""
    for item in items:
        if item.nodeid.startswith(THOROUGH):
            item.add_marker(pytest.mark.thorough)


def missing_files() -> list[str]:
    """What the list names and is not there."""
    return [name for name in THOROUGH if not (REPOSITORY / name.partition("::")[0]).exists()]
