"""Checkpoints through all four stages, on tiny directories that transformers wrote."""

import json
import logging
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.modeling.checkpoint import Checkpoint, model_tensors, vision_tensors
from groundserve.prompts import IMAGE_TOKEN_ID, QueryTokenizer
from tests.reference import CHECKPOINTS, SET_1, SET_2
from tests.rounding import Float64
from train.examples import Example, Text
from train.layout import open_initial, write_checkpoint
from train.models import AnchorModel, CausalModel, PoolingModel
from train.stages import STAGES, grounding, images, projector, video

TOKENIZER = SET_2 / "videoitg-pad-endoftext"
TOWER_NAME = "siglip-tiny-patch14-56"
QWEN2 = {
    "vocab_size": 380,  # 6 rows more than the tokenizer has ids
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "max_window_layers": 2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    "use_sliding_window": False,
}


def make_qwen2(folder, **changes):
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(Qwen2Config(**{**QWEN2, **changes}))
    model.save_pretrained(folder, max_shard_size="40KB")
    for path in TOKENIZER.iterdir():
        if path.suffix in (".json", ".txt") and not path.name.startswith(("config", "model.")):
            shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    return make_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers") / TOWER_NAME
    torch.manual_seed(2)
    config = SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
    )
    SiglipVisionModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 56, "width": 56}}')
    return folder


def make_config(stage, init, *, vision_tower=None, **changes):
    unused = Path("/unused")
    config = stage(
        init=init, vision_tower=vision_tower, records=unused, media_root=unused, out=unused
    )
    return replace(config, **changes)


def change(initial, seed):
    """Stand in for training: move every weight that the stage trains."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in initial.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return {name: tensor.clone() for name, tensor in initial.model.state_dict().items()}


def write(folder, initial):
    write_checkpoint(folder, initial, initial.model.state_dict())
    return folder


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def all_tensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def test_a_model_goes_through_all_four_stages(qwen2, tower, tmp_path):
    init, seed = qwen2, 0
    for name, stage in STAGES.items():
        tower_of_stage = tower if name == "projector" else None  # later found beside the weights
        initial = open_initial(
            make_config(stage, init, vision_tower=tower_of_stage), num_auxiliary=3
        )
        before = {key: value.clone() for key, value in initial.model.state_dict().items()}
        if init != qwen2:
            kept = {k: v for k, v in before.items() if not k.startswith(("auxiliary.", "head."))}
            written = model_tensors(init)
            written.pop("lm_head.weight" if name == "grounding" else "", None)
            assert_equal(kept, written)
        after = change(initial, seed)
        moved = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
        heads = {"auxiliary", "head" if name == "grounding" else "lm_head"}
        expected = {"projector", "decoder", *heads}
        assert moved == ({"projector", "auxiliary"} if name == "projector" else expected)
        init, seed = write(tmp_path / name, initial), seed + 1

    generator = torch.Generator().manual_seed(9)
    features = torch.randn(5, 4, 24, generator=generator, dtype=torch.float64)
    ids = np.array([30, 40, 50])
    text = Text(ids=np.array([IMAGE_TOKEN_ID, *ids]))
    example = Example(frames=np.zeros((5, 56, 56, 3), np.uint8), grid=2, texts=(text,))
    model, served = initial.model.eval().double(), Checkpoint.open(init).load_grounding().double()
    with Float64():
        trained = model([example], [features]).frame_logits[0]
        served = served(features, torch.from_numpy(ids))
    # float64 rounds to 1e-16, and the model takes a few thousand operations.
    torch.testing.assert_close(trained, served, rtol=0, atol=1e-11)
    assert served.std() > 1e-3


def test_the_first_stage_starts_from_the_language_model(qwen2, tower, tmp_path):
    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=0)
    theirs = Qwen2ForCausalLM.from_pretrained(qwen2)
    assert isinstance(initial.model, CausalModel)
    assert_equal(initial.model.decoder.state_dict(), theirs.model.state_dict())
    assert_equal(initial.model.lm_head.state_dict(), theirs.lm_head.state_dict())
    ids = torch.arange(20)[None]
    with Float64():
        ours = initial.model.decoder.double()(input_ids=ids, use_cache=False).last_hidden_state
        expected = theirs.model.double()(ids).last_hidden_state
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-11)
    assert initial.source.directory == qwen2
    assert initial.source.tower_directory == tower
    assert initial.tokenizer.id_to_token(initial.pad_token_id) == "<|endoftext|>"


def test_the_tower_is_the_whole_one_and_frozen(qwen2, tower, tmp_path):
    config = make_config(projector, qwen2, vision_tower=tower)
    initial = open_initial(config, num_auxiliary=0)
    assert not initial.vision.training
    assert not any(parameter.requires_grad for parameter in initial.vision.parameters())
    theirs = SiglipVisionModel.from_pretrained(tower).state_dict()
    for own in (
        initial,
        open_initial(make_config(images, write(tmp_path / "1", initial)), num_auxiliary=0),
    ):
        for name, tensor in own.vision.state_dict().items():
            assert torch.equal(tensor, theirs[name])
    # Also the layer, the norm and the head that nothing here computes.
    assert_equal(vision_tensors(tmp_path / "1", in_tower=False), theirs)
    assert_equal(vision_tensors(tmp_path / "1" / TOWER_NAME, in_tower=True), theirs)
    assert all(
        name.startswith("vision_model.") for name in all_tensors(tmp_path / "1" / TOWER_NAME)
    )


def test_what_is_trained(qwen2, tower):
    def trained(stage, num_auxiliary):
        config = make_config(stage, qwen2, vision_tower=tower)
        model = open_initial(config, num_auxiliary=num_auxiliary).model
        assert model.training
        return {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}

    assert trained(projector, 0) == {"projector"}
    assert trained(projector, 2) == {"projector", "auxiliary"}
    for stage in (images, video):
        assert trained(stage, 0) == {"projector", "decoder", "lm_head"}
    assert trained(grounding, 2) == {"projector", "decoder", "head", "auxiliary"}


def test_new_parts_come_from_the_seed_alone(qwen2, tower):
    def new(seed, num_auxiliary=0):
        config = make_config(grounding, qwen2, vision_tower=tower, seed=seed)
        tensors = open_initial(config, num_auxiliary=num_auxiliary).model.state_dict()
        return {name: t for name, t in tensors.items() if not name.startswith("decoder.")}

    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = new(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    assert_equal(first, new(1))
    with_auxiliary = new(1, num_auxiliary=2)
    assert with_auxiliary.keys() - first.keys() == {"auxiliary.weight", "auxiliary.bias"}
    assert_equal(first, {name: with_auxiliary[name] for name in first})
    assert not torch.equal(first["head.weight"], new(2)["head.weight"])
    assert not first["head.bias"].any()
    assert first["head.weight"].std().item() == pytest.approx(0.02, rel=0.5)
    # torch's default for linear layers: uniform within 1 / sqrt(width of the input).
    for layer, width in (("projector.0", 24), ("projector.2", 32)):
        for part in ("weight", "bias"):
            largest = first[f"{layer}.{part}"].abs().max().item()
            assert 0.5 * width**-0.5 < largest <= width**-0.5


def test_new_heads_are_as_wide_as_the_model_says(tower, tmp_path):
    folder = make_qwen2(tmp_path / "wide", initializer_range=0.5)
    initial = open_initial(make_config(grounding, folder, vision_tower=tower), num_auxiliary=0)
    assert initial.model.head.weight.std().item() == pytest.approx(0.5, rel=0.5)


def test_tied_embeddings_are_copied_and_written_apart(tower, tmp_path, caplog):
    folder = make_qwen2(tmp_path / "tied", tie_word_embeddings=True)
    with caplog.at_level(logging.INFO, "train.layout"):
        initial = open_initial(make_config(images, folder, vision_tower=tower), num_auxiliary=0)
    assert (
        "copied from the embedding table: lm_head; new: projector; dropped: nothing" in caplog.text
    )
    table, head = initial.model.decoder.embed_tokens.weight, initial.model.lm_head.weight
    assert torch.equal(table, head)
    assert table.data_ptr() != head.data_ptr()
    change(initial, 1)
    again = open_initial(make_config(images, write(tmp_path / "out", initial)), num_auxiliary=0)
    assert_equal(again.model.state_dict(), initial.model.state_dict())
    assert not torch.equal(again.model.decoder.embed_tokens.weight, again.model.lm_head.weight)


def test_what_is_loaded_new_and_dropped_is_logged(qwen2, tower, tmp_path, caplog):
    config = make_config(grounding, qwen2, vision_tower=tower)
    with caplog.at_level(logging.INFO, "train.layout"):
        initial = open_initial(config, num_auxiliary=1)
        write(tmp_path / "4", initial)
        open_initial(make_config(video, tmp_path / "4"), num_auxiliary=0)
    first, second = (record.getMessage().split(": ", 1)[1] for record in caplog.records)
    nothing = "copied from the embedding table: nothing"
    assert first == (
        f"loaded decoder; {nothing}; new: auxiliary, head, projector; dropped: lm_head.weight"
    )
    assert second == (
        f"loaded decoder, projector; {nothing}; new: lm_head; dropped: head.bias, head.weight"
    )


def test_config_json_of_the_last_stage(qwen2, tower, tmp_path):
    initial = open_initial(make_config(grounding, qwen2, vision_tower=tower), num_auxiliary=0)
    written = json.loads((write(tmp_path / "4", initial) / "config.json").read_text())
    written.pop("transformers_version")
    assert written == {
        "architectures": ["EagleQwenG"],
        "model_type": "eagle_QwenG",
        "vocab_size": 380,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_scaling": None,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "max_window_layers": 2,
        "use_sliding_window": False,
        "sliding_window": None,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "mm_vision_tower": TOWER_NAME,
        "mm_hidden_size": 24,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_projector_type": "seq_mlp",
        "mm_use_4_vision_tokens": False,
        "mm_patch_merge_type": "flat",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "vision_token_num": 16384,
        "vision_min_num": 1,
        "tokenizer_model_max_length": 20480,
        "tokenizer_padding_side": "right",
        "image_aspect_ratio": "square",
        "use_mm_proj": True,
        "tune_mm_mlp_adapter": False,
        "save_mm_mlp_adapter": False,
        "freeze_mm_mlp_adapter": False,
        "mm_projector_lr": None,
        "torch_dtype": "float32",
        "use_cache": True,
    }


def test_config_json_of_the_earlier_stages(qwen2, tower, tmp_path):
    for name, stage in list(STAGES.items())[:3]:
        initial = open_initial(make_config(stage, qwen2, vision_tower=tower), num_auxiliary=0)
        written = json.loads((write(tmp_path / name, initial) / "config.json").read_text())
        assert (written["architectures"], written["model_type"]) == (
            ["EagleQwenForCausalLM"],
            "eagle_qwen",
        )
        assert (written["vision_token_num"], written["vision_min_num"]) == (12480, 4)
        assert written["tokenizer_model_max_length"] == 16384
        assert written["tune_mm_mlp_adapter"] == (name == "projector")


def test_a_known_tower_keeps_its_name_on_the_hub(qwen2, tower, tmp_path):
    known = tmp_path / "siglip-so400m-patch14-384"
    known.symlink_to(tower)
    initial = open_initial(make_config(grounding, qwen2, vision_tower=known), num_auxiliary=0)
    assert initial.raw_config["mm_vision_tower"] == "google/siglip-so400m-patch14-384"
    opened = Checkpoint.open(write(tmp_path / "4", initial))
    assert opened.tower_directory == tmp_path / "4" / "siglip-so400m-patch14-384"


def test_files_of_the_first_stage(qwen2, tower, tmp_path):
    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=2)
    out = write(tmp_path / "1", initial)
    for path in TOKENIZER.iterdir():
        if path.name.startswith(("tokenizer", "special", "vocab", "merges", "added")):
            assert (out / path.name).read_bytes() == path.read_bytes()
    assert (out / TOWER_NAME / "config.json").read_bytes() == (tower / "config.json").read_bytes()
    assert (out / TOWER_NAME / "preprocessor_config.json").is_file()
    projector_alone = torch.load(out / "mm_projector.bin", weights_only=True)
    assert_equal(
        projector_alone,
        {
            name.replace("projector.", "model.mm_projector.out_projection."): tensor
            for name, tensor in initial.model.state_dict().items()
            if name.startswith("projector.")
        },
    )
    assert not any("auxiliary" in name for name in all_tensors(out))
    later = open_initial(make_config(images, out), num_auxiliary=0)
    assert not (write(tmp_path / "2", later) / "mm_projector.bin").exists()


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_the_references_checkpoints_come_out_as_they_went_in(folder, tmp_path):
    raw = json.loads((folder / "config.json").read_text())
    config = make_config(grounding, folder)
    data = replace(
        config.data,
        vision_token_num=raw["vision_token_num"],
        max_length=raw["tokenizer_model_max_length"],
    )
    initial = open_initial(replace(config, data=data), num_auxiliary=0)
    assert isinstance(initial.model, PoolingModel)
    out = write(tmp_path / folder.name, initial)
    assert_equal(all_tensors(out), all_tensors(folder))
    written = json.loads((out / "config.json").read_text())
    assert {key: written[key] for key in raw if key != "transformers_version"} == {
        key: value for key, value in raw.items() if key != "transformers_version"
    }
    before, after = Checkpoint.open(folder), Checkpoint.open(out)
    assert after.config == before.config
    assert after.vision_config == before.vision_config
    assert_equal(after.load_vision().state_dict(), before.load_vision().state_dict())
    assert_equal(after.load_grounding().state_dict(), before.load_grounding().state_dict())


def test_a_checkpoint_without_a_tower_beside_it_keeps_its_own_copy(tmp_path, monkeypatch):
    """As the released model's; the tower's dimensions are then those of its name."""
    from groundserve.modeling import checkpoint, config

    shutil.copytree(SET_1 / "videoitg-tiny", tmp_path / "alone")
    name = "siglip-tiny-patch14-112"
    known = Checkpoint.open(SET_1 / "videoitg-tiny").vision_config
    monkeypatch.setitem(config.KNOWN_TOWERS, name, known)
    assert checkpoint.KNOWN_TOWERS is config.KNOWN_TOWERS
    initial = open_initial(make_config(grounding, tmp_path / "alone"), num_auxiliary=0)
    assert initial.source.tower_directory is None
    out = write(tmp_path / "out", initial)
    assert_equal(all_tensors(out), all_tensors(SET_1 / "videoitg-tiny"))
    assert not (out / name).exists()
    assert Checkpoint.open(out).tower_directory is None


def test_an_exclamation_mark_survives(qwen2, tower, tmp_path):
    """The reference's own files make it the padding token, and the model never sees it."""
    initial = open_initial(make_config(grounding, qwen2, vision_tower=tower), num_auxiliary=0)
    tokenizer, pad_token_id = Checkpoint.open(write(tmp_path / "4", initial)).load_tokenizer()
    query = "Stop! Now!!"
    kept = QueryTokenizer(tokenizer, pad_token_id=pad_token_id).text_ids(query)
    assert tokenizer.decode(kept.tolist()) == f"{query}\n"
    bang, bang_pad = Checkpoint.open(SET_2 / "videoitg-pad-bang").load_tokenizer()
    lost = QueryTokenizer(bang, pad_token_id=bang_pad).text_ids(query)
    assert "!" not in bang.decode(lost.tolist(), skip_special_tokens=False)


def test_a_padding_token_that_is_an_exclamation_mark_is_kept_with_a_warning(caplog):
    initial = open_initial(make_config(grounding, SET_2 / "videoitg-pad-bang"), num_auxiliary=0)
    assert initial.tokenizer.id_to_token(initial.pad_token_id) == "!"
    assert 'is "!"; questions lose theirs' in caplog.text


def test_weights_are_stored_in_shards(qwen2, tower, tmp_path, monkeypatch):
    from train import layout

    monkeypatch.setattr(layout, "MAX_FILE_BYTES", 50_000)
    initial = open_initial(make_config(grounding, qwen2, vision_tower=tower), num_auxiliary=0)
    out = write(tmp_path / "4", initial)
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 2
    assert {tensor.dtype for tensor in all_tensors(out).values()} == {torch.float32}
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "float32"
    with safe_open(next((out / TOWER_NAME).glob("*.safetensors")), framework="pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float32}  # noqa: SIM118
    again = open_initial(make_config(grounding, out), num_auxiliary=0).model.state_dict()
    assert_equal(again, initial.model.state_dict())


class ReadOneByOne(Mapping):
    """Hands out copies, and counts the bytes of those that live at one time."""

    def __init__(self, tensors):
        self.tensors, self.alive, self.most, self.read = tensors, 0, 0, []

    def __len__(self):
        return len(self.tensors)

    def __iter__(self):
        return iter(self.tensors)

    def __getitem__(self, name):
        tensor = self.tensors[name].clone()
        self.read.append(name)
        self.alive += tensor.nbytes
        self.most = max(self.most, self.alive)
        weakref.finalize(tensor, self.forget, tensor.nbytes)
        return tensor

    def forget(self, num_bytes):
        self.alive -= num_bytes


def test_no_more_than_one_file_is_held(qwen2, tower, tmp_path, monkeypatch):
    from train import layout

    monkeypatch.setattr(layout, "MAX_FILE_BYTES", 50_000)
    initial = open_initial(make_config(grounding, qwen2, vision_tower=tower), num_auxiliary=0)
    weights = ReadOneByOne(initial.model.state_dict())
    write_checkpoint(tmp_path / "4", initial, weights)
    assert sorted(weights.read) == sorted(weights.tensors)  # each once
    sizes = [tensor.nbytes for tensor in weights.tensors.values()]
    assert sum(sizes) > 2 * weights.most
    assert weights.most <= max(50_000, *sizes)  # what is larger than a file has one to itself
    assert_equal(model_tensors(tmp_path / "4"), weights.tensors)


def test_training_does_not_write_to_the_file_it_started_from(qwen2, tower, tmp_path):
    initial = open_initial(make_config(grounding, qwen2, vision_tower=tower), num_auxiliary=0)
    out = write(tmp_path / "4", initial)
    before = {name: tensor.clone() for name, tensor in all_tensors(out).items()}
    change(open_initial(make_config(grounding, out), num_auxiliary=0), 1)
    assert_equal(all_tensors(out), before)


def test_a_checkpoint_replaces_an_earlier_one_whole(qwen2, tower, tmp_path):
    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=0)
    out = write(tmp_path / "final", initial)
    (out / "left over.txt").touch()
    (tmp_path / ".final.partial").mkdir()  # of a run that was killed
    change(initial, 1)
    write(out, initial)
    assert_equal(model_tensors(out), initial.model.state_dict())
    assert not (out / "left over.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_write_that_fails_leaves_the_earlier_checkpoint(qwen2, tower, tmp_path, monkeypatch):
    from train import layout

    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=0)
    out = write(tmp_path / "final", initial)
    before = all_tensors(out)
    change(initial, 1)

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(layout, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write(out, initial)
    assert_equal(all_tensors(out), before)


def test_other_folders_are_not_replaced(qwen2, tower, tmp_path):
    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=0)
    (tmp_path / "photos").mkdir()
    with pytest.raises(InvalidRequestError, match="photos exists and is not a checkpoint"):
        write(tmp_path / "photos", initial)


def test_anchors_are_trained_on_and_not_served(qwen2, tower, tmp_path):
    anchors = make_config(grounding, qwen2, vision_tower=tower, variant="anchor")
    initial = open_initial(anchors, num_auxiliary=0)
    assert isinstance(initial.model, AnchorModel)
    out = write(tmp_path / "4", initial)
    with pytest.raises(UnsupportedError, match="grounding_variant is 'anchor'; groundserve comp"):
        Checkpoint.open(out)
    again = open_initial(replace(anchors, init=out, vision_tower=None), num_auxiliary=0)
    assert_equal(again.model.state_dict(), initial.model.state_dict())
    with pytest.raises(InvalidRequestError, match='variant must be "anchor", as init was trained'):
        open_initial(make_config(grounding, out), num_auxiliary=0)
    text_again = open_initial(make_config(video, out), num_auxiliary=0)  # the head goes anyway
    assert "grounding_variant" not in text_again.raw_config


def copy_with(source, folder, *, config=None, tensors=None):
    """Copy a directory with another config or other tensors."""
    shutil.copytree(source, folder)
    if config is not None:
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**raw, **config}))
    if tensors is not None:
        changed = tensors(all_tensors(folder))
        for path in [*folder.glob("model*")]:
            path.unlink()
        save_file(changed, folder / "model.safetensors")
    return folder


def without(*names):
    return lambda tensors: {n: t for n, t in tensors.items() if n not in names}


@pytest.mark.parametrize(
    ("stage", "source", "changes", "message"),
    [
        pytest.param(
            projector,
            "qwen2",
            {"tensors": without("model.norm.weight")},
            r"lacks 1 tensor\(s\) of CausalModel: decoder\.norm\.weight",
            id="missing",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"tensors": without("lm_head.weight")},
            r"lacks 1 tensor\(s\) of CausalModel: lm_head\.weight",
            id="missing_and_not_tied",
        ),
        pytest.param(
            grounding,
            "qwen2",
            {"tensors": lambda tensors: {**tensors, "extra": torch.zeros(1)}},
            r"has unknown 1 tensor\(s\) of PoolingModel: extra",
            id="unknown",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"config": {"vocab_size": 400}},
            r"decoder\.embed_tokens\.weight has shape \(380, 32\), .* asks for \(400, 32\)",
            id="shape",
        ),
        pytest.param(
            grounding,
            "grounding",
            {"tensors": without("out_proj.weight", "out_proj.bias")},
            r"lacks 2 tensor\(s\) of PoolingModel: head\.bias, head\.weight",
            id="a_grounding_checkpoint_has_a_head",
        ),
        pytest.param(
            grounding,
            "grounding",
            {"tensors": without("model.mm_projector.out_projection.0.bias")},
            r"lacks 1 tensor\(s\) of PoolingModel: projector\.0\.bias",
            id="part_of_a_projector",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"config": {"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn"}}},
            "rope_scaling must be default, got 'yarn'",
            id="rope_scaling",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"config": {"attention_dropout": 0.1}},
            r"attention_dropout must be 0\.0, got 0\.1",
            id="dropout",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"config": {"use_sliding_window": True}},
            "use_sliding_window is True",
            id="sliding_window",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"config": {"model_type": "llama"}},
            "mm_projector_type is missing",
            id="another_model",
        ),
    ],
)
def test_other_directories_are_refused(stage, source, changes, message, qwen2, tower, tmp_path):
    original = qwen2 if source == "qwen2" else SET_1 / "videoitg-tiny"
    tower = tower if source == "qwen2" else SET_1 / "siglip-tiny-patch14-112"
    folder = copy_with(original, tmp_path / "changed", **changes)
    with pytest.raises(InvalidRequestError, match=message):
        open_initial(make_config(stage, folder, vision_tower=tower), num_auxiliary=0)


def test_a_tokenizer_with_more_ids_than_rows_is_refused(tower, tmp_path):
    folder = make_qwen2(tmp_path / "short", vocab_size=300)
    with pytest.raises(InvalidRequestError, match="has 374 ids, the embedding table 300 rows"):
        open_initial(make_config(projector, folder, vision_tower=tower), num_auxiliary=0)


def test_a_language_model_needs_a_tower(qwen2, tower, tmp_path):
    with pytest.raises(InvalidRequestError, match="vision_tower must be given"):
        open_initial(make_config(projector, qwen2), num_auxiliary=0)
    shutil.copytree(tower, tmp_path / "vision")
    with pytest.raises(InvalidRequestError, match=r'must have "siglip" in its name.*got "vision"'):
        open_initial(
            make_config(projector, qwen2, vision_tower=tmp_path / "vision"), num_auxiliary=0
        )


def test_missing_folders_are_named(qwen2, tower):
    nowhere = Path("/nowhere")
    with pytest.raises(InvalidRequestError, match="init must be a folder, got /nowhere"):
        open_initial(make_config(projector, nowhere, vision_tower=tower), num_auxiliary=0)
    with pytest.raises(InvalidRequestError, match="vision_tower must be a folder, got /nowhere"):
        open_initial(make_config(projector, qwen2, vision_tower=nowhere), num_auxiliary=0)
