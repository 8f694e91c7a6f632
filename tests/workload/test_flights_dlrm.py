"""Late flights and the recommendation model."""

import math
import zipfile

import pytest
import torch
from real_data import load_or_skip

from thalweg.core.errors import UsageError
from thalweg.workload import flights_dlrm as module
from thalweg.workload.dlrm import Dlrm, click_loss, click_metric


def test_shapes_and_split():
    found = load_or_skip("flights-dlrm")
    for (numbers, categories, labels), count in (
        (found.train, 294_612),
        (found.validation, 32_734),
    ):
        assert numbers.shape == (count, len(module.NUMBERS))
        assert categories.shape == (count, len(module.CATEGORIES))
        assert labels.shape == (count,)
        assert bool(numbers.isfinite().all())
        assert float(labels.mean()) == pytest.approx(0.237, abs=0.005)
    numbers, categories, _ = found.train
    assert numbers.double().mean(0).abs().max() < 0.02  # but for hours without weather
    assert int(categories.min()) == 1  # 0 is what training does not have
    rows = found.model().starts.diff().tolist()
    assert (categories.amax(0)[:-1] + 1).tolist() == rows
    assert bool((found.validation[1].amax(0)[:-1] < torch.tensor(rows)).all())


def test_no_flight_is_in_both_sets():
    found = load_or_skip("flights-dlrm")
    # Number, carrier, origin and day: a flight flies once a day.
    columns = [module.CATEGORIES.index(name) for name in ("flight", "carrier", "origin", "day")]

    def keys(categories):
        return {tuple(row) for row in categories[:, columns].tolist()}

    assert not keys(found.train[1]) & keys(found.validation[1])


def test_the_split_is_disjoint_and_unknown_categories_are_0(tmp_path):
    header = "year,month,day,hour,minute,arr_delay,carrier,flight,tailnum,origin,dest,distance"
    lines = [
        f"2013,1,{1 + i % 28},5,{i},{(15, 16, -3, 'NA')[i % 4]},AA,{i},NA,JFK,MIA,1089,"
        + ("t" if i else "u")
        for i in range(40)
    ]
    with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", "\n".join([f"{header},time_hour", *lines]))
    weather = ",".join(["origin", "time_hour", *module.WEATHER])
    (tmp_path / "weather.csv").write_text(f"{weather}\nJFK,t,1,2,3,4,5,6,7\n")
    made = module._prepare(tmp_path)
    assert made["delay"].tolist() == [15, 16, -3] * 10
    assert made["categories"].shape == (30, 9)
    assert made["numbers"][0].tolist() == pytest.approx([1089, 300] + 7 * [math.nan], nan_ok=True)
    assert made["numbers"][3].tolist() == [1089, 304, 1, 2, 3, 4, 5, 6, 7]
    flight = made["categories"][:, module.CATEGORIES.index("flight")]
    assert len(set(flight.tolist())) == 30
    train, validation, rows = module._split(made)
    assert len(train[2]) == 27
    assert len(validation[2]) == 3
    column = module.CATEGORIES.index("flight")
    assert sorted(train[1][:, column].tolist()) == list(range(1, 28))
    assert validation[1][:, column].tolist() == [0, 0, 0]
    assert rows[column] == 28
    assert sorted([*train[2].tolist(), *validation[2].tolist()]) == [0.0] * 20 + [1.0] * 10


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"weather.csv.*thalweg\[flights-dlrm\]"):
        module._prepare(tmp_path)


@pytest.mark.parametrize("squares", [False, True])
def test_dlrm_against_its_formula(squares):
    torch.manual_seed(0)
    model = Dlrm(3, (4, 5), 2, 6, bottom=(7,), top=(8,), squares=squares).double()
    numbers = torch.randn(9, 3, dtype=torch.float64)
    categories = torch.stack([torch.randint(0, 4, (9,)), torch.randint(0, 5, (9,))], dim=1)
    table = model.embedding.weight
    assert table.shape == (9, 6)
    for row in range(9):
        dense = model.bottom(numbers[row])
        assert bool((dense >= 0).all())
        vectors = [dense, table[categories[row, 0]], table[4 + categories[row, 1]]]
        pairs = [vectors[i] @ vectors[j] for i in range(3) for j in range(i + 1 if squares else i)]
        wanted = model.top(torch.cat([dense, torch.stack(pairs)]))
        assert torch.allclose(model(numbers, categories)[row], wanted.squeeze(0))


def test_one_table_for_all_categories():
    model = Dlrm(3, 11, 2, 6, bottom=(7,), top=(8,))
    assert model.embedding.weight.shape == (11, 6)
    same = torch.tensor([[3, 3]])
    hidden = model.embedding(same + model.starts)
    assert torch.equal(hidden[0, 0], hidden[0, 1])


def test_the_metric_is_the_log_loss():
    class Oracle(torch.nn.Module):
        def forward(self, numbers, categories):
            return numbers[:, 0]

    logits = torch.tensor([[-2.0], [0.0], [0.5], [30.0], [-30.0]])
    labels = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    batch = (logits, torch.zeros(5, 1, dtype=torch.int32), labels)
    wanted = []
    for logit, label in zip(logits[:, 0].tolist(), labels.tolist(), strict=True):
        chance = 1 / (1 + math.exp(-logit))
        wanted.append(-math.log(chance if label else 1 / (1 + math.exp(logit))))
    assert click_metric(Oracle(), batch).tolist() == pytest.approx(wanted, rel=1e-5)
    assert float(click_loss(Oracle(), batch)) == pytest.approx(sum(wanted) / 5, rel=1e-5)
