"""Who trains at which rate."""

from tests.unit.train.runs import NUM_AUXILIARY, make_config
from train.config import OptimizerConfig
from train.families.videoitg.family import open_initial
from train.optimizer import new_optimizer, parameter_groups

HEAD = {"head.weight", "head.bias", "auxiliary.weight", "auxiliary.bias"}
PROJECTOR = {f"projector.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}


def make_model(stage="grounding", *, num_auxiliary=NUM_AUXILIARY):
    return open_initial(make_config("out", stage=stage), num_auxiliary=num_auxiliary).model


def group_names(model, config):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        group: {names[parameter] for parameter in parameters}
        for group, parameters in parameter_groups(model, config).items()
    }


def optimizer_config(**changes):
    values = {"learning_rate": 2e-5, "out_proj_learning_rate": 2e-4, "warmup_ratio": 0.05}
    return OptimizerConfig(**values | changes)


def test_projector_trains_at_the_heads_rate_as_upstream():
    model = make_model()
    groups = group_names(model, optimizer_config())
    assert groups["out_proj"] == HEAD | PROJECTOR
    assert groups["base"] == {name for name, _ in model.named_parameters()} - HEAD - PROJECTOR


def test_frozen_parameters_are_in_no_group():
    model = make_model("projector", num_auxiliary=0)
    assert group_names(model, optimizer_config()) == {"base": set(), "out_proj": PROJECTOR}
    optimizer = new_optimizer(model, optimizer_config())
    assert [group["name"] for group in optimizer.param_groups] == ["out_proj"]
