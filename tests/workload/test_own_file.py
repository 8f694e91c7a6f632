"""The user's own task file: it runs, and every way to get it wrong is told clearly."""

import os
import textwrap
from pathlib import Path

import pytest
import torch

from thalweg import workload
from thalweg.core.errors import UsageError
from thalweg.workload import starter

GOOD = """
    import torch
    from torch import nn

    def model():
        return nn.Linear(3, 2)

    def data():
        x = torch.arange(30.0).reshape(10, 3)
        return (x, x.sum(1).long() % 2), (x[:4], x[:4].sum(1).long() % 2)

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def metric(model, batch):
        return (model(batch[0]).argmax(1) == batch[1]).float().mean()
"""


@pytest.fixture
def write(tmp_path):
    def write(text, more=""):
        path = tmp_path / "my_task.py"
        path.write_text(textwrap.dedent(text) + textwrap.dedent(more))
        return path

    return write


def complaint(path):
    with pytest.raises(UsageError) as caught:
        workload.check(workload.load(path))
    return str(caught.value)


def test_a_minimal_file(write):
    found = workload.load(write(GOOD))
    workload.check(found)
    assert (found.name, found.title, found.metric_name) == ("my_task", "my_task", "metric")
    assert (found.steps, found.batch_size, found.target) == (300, 64, None)
    assert found.higher_is_better is True


def test_settings(write):
    settings = """
        metric_name = "accuracy"
        higher_is_better = False
        batch_size = 2
        steps = 7
        target = 0.9
        evaluate_every = 3
        title = "Mine"
        licence = "none"
        WIDTH = 5
        _step = 3
        depth = 4
    """
    found = workload.load(write(GOOD, settings))
    assert (found.metric_name, found.higher_is_better, found.batch_size) == ("accuracy", False, 2)
    assert (found.steps, found.target, found.evaluate_every) == (7, 0.9, 3)
    assert (found.title, found.licence) == ("Mine", "none")


def test_files_beside_it_can_be_imported(write, tmp_path):
    (tmp_path / "beside_my_task.py").write_text("WIDTH = 3\n")
    workload.check(workload.load(write(GOOD, "from beside_my_task import WIDTH")))


def test_loading_leaves_random_generators_alone(write):
    before = torch.get_rng_state()
    workload.check(workload.load(write(GOOD, "torch.rand(5)")))
    assert torch.equal(torch.get_rng_state(), before)


def test_dict_batches_without_a_loss(write):
    task = """
        from types import SimpleNamespace
        import torch
        from torch import nn

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3, 2)

            def forward(self, inputs, labels):
                logits = self.linear(inputs)
                return SimpleNamespace(loss=nn.functional.cross_entropy(logits, labels))

        model = Model

        def data():
            columns = {"inputs": torch.randn(8, 3), "labels": torch.arange(8) % 2}
            rows = [{key: column[i] for key, column in columns.items()} for i in range(8)]
            return rows, columns

        def metric(model, batch):
            return -model(**batch).loss
    """
    workload.check(workload.load(write(task)))
    without_labels = task.replace("loss=nn", "lost=nn")
    assert "returned no loss" in complaint(write(without_labels))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("del model", "has no function model()"),
        ("del data", "has no function data()"),
        ("del loss", "has no function loss(model, batch); it may be left out only if"),
        ("del metric", "has no function metric(model, batch)"),
        ("metrics = metric\ndel metric", 'It has "metrics"; rename it?'),
        ("loss = 3", "loss must be a function loss(model, batch), found int"),
        ("def metric(model): return 1.0", "metric(model) cannot be called as metric(model, batch)"),
        ("def model(width): return nn.Linear(3, width)", "cannot be called as model()"),
        ("def model(): return 3", "must return a torch.nn.Module, found int"),
        ("def model(): return nn.ReLU()", "no parameter to train"),
        ("def model(): return nn.Linear(3, 2).requires_grad_(False)", "no parameter to train"),
        ("net = nn.Linear(3, 2)\ndef model(): return net", "must build a new model each time"),
        ("def model(): raise OSError('no such disk')", "in model: def model()"),
        ("def data(): return 1 / 0", "data() failed:\nmy_task.py, line 17, in data"),
        ("def data(): return torch.zeros(3)", "must return two things"),
        ("def data(): return [], torch.zeros(3)", "training data: found no sample"),
        ("def data(): return torch.zeros(3), torch.zeros(0, 2)", "validation data: found no"),
        ("def loss(model, batch): return model(batch[0]).mean(1)", "of shape (10,)"),
        ("def loss(model, batch): return model(batch[0]).argmax()", "type torch.int64"),
        ("def loss(model, batch): return 1.0", "scalar tensor, found float"),
        ("def loss(model, batch): return model(batch[0]).mean().detach()", "no gradient"),
        ("def loss(model, batch): return 0 * model(batch[0]).mean() / 0", "the loss is nan at the"),
        (
            "def loss(model, batch): return (model(batch[0]) * 0).sum().sqrt()",
            'the gradient of "weight" is not finite',
        ),
        (
            "other = nn.Linear(3, 2)\ndef loss(model, batch): return other(batch[0]).mean()",
            "does not depend on any parameter",
        ),
        ("def loss(model, batch): return model(batch).mean()", "my_task.py, line 17, in loss"),
        ("def metric(model, batch): return model(batch[0])", "of shape (4, 2)"),
        ("def metric(model, batch): return 'good'", "found str"),
        ("def metric(model, batch): return float('nan')", "the metric is nan"),
        ("def metric(model, batch): return model.nothing", "in metric: def metric"),
        ("batchsize = 3", 'Did you mean "batch_size"?'),
        ("higher_is_beter = True", 'Did you mean "higher_is_better"?'),
        ("step = 5", 'Did you mean "steps"?'),
        ("steps = 0", "steps must be an integer from 1, found 0"),
        ("target = 'high'", "target must be a finite number"),
        ("import nothing_of_this_name", "does not import:\nmy_task.py, line 17: import nothing"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_is_wrong_is_told(write, more, message):
    found = complaint(write(GOOD, more))
    assert message in found
    assert "Traceback" not in found
    assert len(found.splitlines()) <= 5


def test_the_line_of_the_user_is_named_not_the_library(write):
    found = complaint(write(GOOD, "def loss(model, batch):\n    return model(batch).mean()"))
    assert "my_task.py, line 18, in loss: return model(batch).mean()" in found
    assert "TypeError" in found
    assert "torch/nn" not in found


def test_no_file():
    with pytest.raises(UsageError, match=r"no task file missing\.py; write one with: thalweg new"):
        workload.load("missing.py")


def test_a_folder_and_another_kind_of_file(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        workload.load(tmp_path)
    (tmp_path / "task.txt").write_text("")
    with pytest.raises(UsageError, match=r"its name ends in \.py, found task\.txt"):
        workload.load(tmp_path / "task.txt")


def test_the_template_runs_as_it_is(tmp_path):
    path = workload.write_template(tmp_path / "spirals.py")
    found = workload.load(path)
    workload.check(found)
    assert (found.metric_name, found.batch_size, found.steps) == ("accuracy", 64, 300)
    points, labels = found.train
    assert points.shape == (4000, 2)
    assert labels.bincount().tolist() == [2000, 2000]


def test_the_template_is_the_module_that_is_type_checked(tmp_path):
    path = workload.write_template(tmp_path / "t.py")
    assert path.read_text() == Path(str(starter.__file__)).read_text()
    assert torch.equal(starter.data()[0][0], workload.load(path).train[0])


def test_the_template_overwrites_nothing(tmp_path):
    path = tmp_path / "t.py"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        workload.write_template(path)
    assert path.read_text() == "mine"


def test_where_the_template_cannot_go(tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.py, found task"):
        workload.write_template(tmp_path / "task")
    with pytest.raises(UsageError, match="cannot write"):
        workload.write_template(tmp_path / "nowhere" / "t.py")
    assert os.listdir(tmp_path) == []
