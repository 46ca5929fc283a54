import pytest
import torch

from ase_pet.training.config import OptimizerConfig, ScheduleConfig
from ase_pet.training.optimization import MovingAverage, Schedule, make_optimizer


def test_cosine_rises_falls_and_ends():
    schedule = Schedule(ScheduleConfig(warmup=10, final=0.1))
    assert schedule.factor(0, 0.0) == pytest.approx(0.1)
    assert schedule.factor(9, 0.0) == pytest.approx(1.0)
    assert schedule.factor(50, 0.5) == pytest.approx(0.55)
    assert schedule.factor(99, 1.0) == schedule.factor(99, 1.7) == pytest.approx(0.1)
    assert not schedule.is_over


def test_plateau_falls_after_patience_and_ends():
    config = ScheduleConfig(kind="plateau", warmup=0, factor=0.5, patience=2, final=0.2)
    schedule = Schedule(config)
    for improved in (True, False, True, False):
        schedule.validated(improved=improved)
    assert schedule.factor(5, 0.9) == 1.0
    schedule.validated(improved=False)
    assert schedule.factor(5, 0.9) == 0.5
    other = Schedule(config)
    other.restore(schedule.state())
    for _ in range(4):
        assert not other.is_over
        other.validated(improved=False)
    assert other.is_over


def test_average_follows_its_definition():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 1.0)
    average = MovingAverage(module, 0.9)
    expected = 1.0
    for t, value in enumerate([2.0, -1.0, 5.0]):
        torch.nn.init.constant_(module.weight, value)
        average.update()
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert float(module.weight.detach()) == pytest.approx(expected)
    assert float(module.weight.detach()) == 5.0


def test_weights_come_back_after_an_error():
    module = torch.nn.Linear(2, 2)
    before = module.weight.detach().clone()
    average = MovingAverage(module, 0.5)
    average.averages[0].zero_()

    def fail():
        with average.applied():
            assert float(module.weight.detach().abs().max()) == 0.0
            raise RuntimeError("oops")

    with pytest.raises(RuntimeError, match="oops"):
        fail()
    assert torch.equal(module.weight, before)


def test_biases_do_not_decay():
    optimizer = make_optimizer(torch.nn.Linear(2, 3), OptimizerConfig(weight_decay=0.1))
    decays = {p.dim(): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {2: 0.1, 1: 0.0}
