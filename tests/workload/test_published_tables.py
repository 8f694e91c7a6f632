"""The workloads at their published size, on tiny data in the published formats."""

import dataclasses
import gzip

import numpy as np
import pytest
import torch

from thalweg import train, workload
from thalweg.core.errors import UsageError
from thalweg.workload import (
    criteo_dlrm,
    fineweb_gpt,
    ogbg_gnn,
    package,
    user_files,
    wmt_transformer,
)
from thalweg.workload.dlrm import Dlrm
from thalweg.workload.encoder_decoder import END, START, EncoderDecoder
from thalweg.workload.gpt import Gpt

LARGE = ("criteo-dlrm", "ogbg-gnn", "wmt-transformer", "fineweb-gpt")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "published"
    made.mkdir()
    return made


def trains(found, **changes):
    """Three steps of the workload with a batch that fits."""
    small = dataclasses.replace(found, batch_size=4, evaluate_every=3, **changes)
    workload.check(small)
    result = train.fit(small, "adamw(lr=1e-3)", steps=3)
    assert result.status == "ok"
    return result


@pytest.mark.parametrize("name", LARGE)
def test_the_folder_is_asked_for(name, folder):
    assert name in workload.published()
    assert name not in workload.names()
    for given in (name, f"{name}:", f"{name}:{folder / 'none'}"):
        with pytest.raises(UsageError, match=f"give one: {name}:FOLDER"):
            workload.load(given)
    with pytest.raises(UsageError, match=str(folder)):
        workload.load(f"{name}:{folder}")


@pytest.mark.parametrize(
    ("facts", "build"),
    [
        (
            criteo_dlrm.FACTS,
            lambda: Dlrm(13, 4_194_304, 26, 128, (512, 256), (1024, 1024, 512, 256), squares=True),
        ),
        (ogbg_gnn.FACTS, lambda: ogbg_gnn.GraphNetwork()),
        (
            wmt_transformer.FACTS,
            lambda: EncoderDecoder(32_000, 32_000, 1024, 16, 6, 4096, dropout=0.1, tied=True),
        ),
        (fineweb_gpt.FACTS, lambda: Gpt(50_257, 1024, 768, heads=12, blocks=12, tied=True)),
    ],
    ids=LARGE,
)
def test_the_published_size(facts, build):
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build().parameters())
    assert f"{count:,} parameters" in facts["architecture"]


def criteo_line(label, numbers, categories):
    return "\t".join(map(str, [label, *numbers, *categories])) + "\n"


def criteo_file(file, rows, first=0):
    lines = [
        criteo_line(i % 2, [i, "", -1, *range(10)], ["ffffffff", "", *[f"{i:08x}"] * 24])
        for i in range(first, first + rows)
    ]
    content = "".join(lines).encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def test_criteo_days(folder):
    for day, rows in ((0, 5), (2, 6), (10, 8)):
        criteo_file(folder / f"day_{day}.gz", rows, first=100 * day)
    found = criteo_dlrm.criteo_dlrm(folder, buckets=1000)
    assert len(found.train) == 11
    assert found.train[:, 1].tolist() == [0, 1, 2, 3, 4, 200, 201, 202, 203, 204, 205]
    assert found.validation[:, 1].tolist() == [1000, 1001, 1002, 1003]  # half of the last day
    numbers, categories, labels = criteo_dlrm._sample(found.train[5:6], 1000)
    assert torch.allclose(numbers[0, :4], torch.tensor([201.0, 1, 1, 1]).log())
    assert categories[0].tolist() == [0xFFFFFFFF % 1000, 0] + [200] * 24
    assert labels.tolist() == [0]
    trains(found)
    again = criteo_dlrm.criteo_dlrm(folder, buckets=1000)
    assert torch.equal(again.train, found.train)


def test_criteo_of_kaggle(folder):
    criteo_file(folder / "train.txt", 14)
    found = criteo_dlrm.criteo_dlrm(folder, buckets=50)
    assert found.train[:, 1].tolist() == list(range(12))
    assert found.validation[:, 1].tolist() == [12, 13]
    criteo_file(folder / "train.txt", 15)
    (folder / "prepared.bin").write_bytes(b"short")
    with pytest.raises(UsageError, match="prepared from other files"):
        criteo_dlrm.criteo_dlrm(folder)


@pytest.mark.parametrize("line", ["1\t2\n", criteo_line(1, range(13), ["xyz"] * 26), "\n"])
def test_criteo_of_another_format(folder, line):
    criteo_file(folder / "train.txt", 3)
    with (folder / "train.txt").open("a") as file:
        file.write(line)
    with pytest.raises(UsageError, match=r"train.txt: after line 0: a line must be a label, 13"):
        criteo_dlrm.criteo_dlrm(folder)
    assert not (folder / "prepared.txt").exists()


def write_csv(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode()))


def ogbg_folder(folder):
    draw = np.random.default_rng(0)
    node_counts = draw.integers(2, 6, 20)
    raw = folder / "raw"
    write_csv(raw / "num-node-list.csv.gz", node_counts[:, None])
    write_csv(raw / "num-edge-list.csv.gz", (node_counts - 1)[:, None])  # paths
    write_csv(raw / "edge.csv.gz", [(i, i + 1) for count in node_counts for i in range(count - 1)])
    write_csv(raw / "edge-feat.csv.gz", draw.integers(0, 3, (int((node_counts - 1).sum()), 3)))
    write_csv(raw / "node-feat.csv.gz", draw.integers(0, 9, (int(node_counts.sum()), 9)))
    labels = [
        ["" if (i + j) % 3 == 0 else float((i // 2 + j) % 2) for j in range(5)] for i in range(20)
    ]
    write_csv(raw / "graph-label.csv.gz", labels)
    write_csv(folder / "split/scaffold/train.csv.gz", [[i] for i in range(0, 20, 2)])
    write_csv(folder / "split/scaffold/valid.csv.gz", [[i] for i in range(1, 20, 2)])
    return node_counts, labels


def test_ogbg(folder):
    node_counts, labels = ogbg_folder(folder)
    found = ogbg_gnn.ogbg_gnn(folder)
    for graphs, numbers in ((found.train, range(0, 20, 2)), (found.validation, range(1, 20, 2))):
        assert [len(graph.nodes) for graph in graphs] == node_counts[list(numbers)].tolist()
        for graph, number in zip(graphs, numbers, strict=True):
            count = len(graph.nodes)
            forth, back = list(range(count - 1)), list(range(1, count))
            assert graph.ends.tolist() == [forth + back, back + forth]
            assert torch.equal(graph.edges[: count - 1], graph.edges[count - 1 :])
            wanted = [float("nan") if label == "" else label for label in labels[number]]
            assert graph.label.tolist() == pytest.approx(wanted, nan_ok=True)
    result = trains(found)
    assert 0 < result.final_metric < 1


def test_ogbg_does_not_see_the_order_of_nodes(folder):
    ogbg_folder(folder)
    found = ogbg_gnn.ogbg_gnn(folder)
    torch.manual_seed(0)
    model = found.model().double().eval()
    graph = next(graph for graph in found.train if len(graph.nodes) > 3)
    order = torch.randperm(len(graph.nodes))
    edges = torch.randperm(len(graph.edges))
    other = graph._replace(
        nodes=graph.nodes[order],
        edges=graph.edges[edges],
        ends=order.argsort()[graph.ends[:, edges]],
    )
    before = model(found.collate([graph, found.train[0]]))
    assert torch.allclose(before, model(found.collate([other, found.train[0]])), rtol=1e-10)


def test_ogbg_of_tables_that_do_not_fit(folder):
    ogbg_folder(folder)
    write_csv(folder / "raw/num-node-list.csv.gz", [[1]] * 20)
    with pytest.raises(UsageError, match="do not fit together"):
        ogbg_gnn.ogbg_gnn(folder)
    (folder / "raw/edge.csv.gz").unlink()
    with pytest.raises(UsageError, match=r"edge.csv.gz, and there is no such file"):
        ogbg_gnn.ogbg_gnn(folder)


WORDS = {"der": "the", "hund": "dog", "katze": "cat", "sieht": "sees", "rot": "red", "ein": "a"}


def wmt_pairs(count):
    draw = np.random.default_rng(count)
    chosen = draw.choice(list(WORDS), (count, 4))
    return [(" ".join(row) + ".", " ".join(WORDS[w] for w in row) + ".") for row in chosen]


def wmt_text(folder):
    for split, count in (("train", 40), ("validation", 6)):
        for side, name in enumerate(("de", "en")):
            lines = [pair[side] + "\n" for pair in wmt_pairs(count)]
            (folder / f"{split}.{name}").write_text("".join(lines))


def test_wmt_text(folder):
    pytest.importorskip("tokenizers")
    wmt_text(folder)
    found = wmt_transformer.wmt_transformer(folder, tokens=300, width=64, layers=1)
    assert (len(found.train), len(found.validation)) == (40, 6)
    original, translation = found.train[7]
    assert original[-1] == END
    assert (translation[0], translation[-1]) == (START, END)
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(translation[1:-1].tolist()) == wmt_pairs(40)[7][1]
    result = trains(found)
    assert 0 <= result.final_metric <= 100
    assert wmt_transformer.wmt_transformer(folder, width=64, layers=1).train[7][0].tolist() == (
        original.tolist()
    )


def test_wmt_metric_of_a_perfect_translator(folder, monkeypatch):
    pytest.importorskip("tokenizers")
    wmt_text(folder)
    found = wmt_transformer.wmt_transformer(folder, tokens=300, width=64, layers=1)
    batch = found.collate([found.validation[i] for i in range(6)])
    right = [[int(token) for token in row if token > END] for row in batch[1]]
    monkeypatch.setattr(wmt_transformer, "greedy", lambda *given: right)
    assert float(found.combine(found.metric(torch.nn.Identity(), batch))) == pytest.approx(100)


def test_wmt_parquet_is_the_same(folder):
    datasets = pytest.importorskip("datasets")
    for split, count in (("train", 40), ("validation", 6)):
        rows = [{"de": de, "en": en} for de, en in wmt_pairs(count)]
        table = datasets.Dataset.from_dict({"translation": rows})
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    found = wmt_transformer.wmt_transformer(folder, tokens=300, width=64, layers=1)
    other = folder.with_name("text")
    other.mkdir()
    wmt_text(other)
    text = wmt_transformer.wmt_transformer(other, tokens=300, width=64, layers=1)
    for one, two in zip(found.train[3], text.train[3], strict=True):
        assert one.tolist() == two.tolist()


def test_wmt_sides_of_different_length(folder):
    pytest.importorskip("tokenizers")
    wmt_text(folder)
    with (folder / "train.en").open("a") as file:
        file.write("one more\n")
    with pytest.raises(UsageError, match=r"train.de and .*train.en differ in length"):
        wmt_transformer.wmt_transformer(folder, tokens=300)


def test_wmt_without_its_package(folder, monkeypatch):
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'tokenizers.*pip install "thalweg\[published\]"'):
        wmt_transformer.wmt_transformer(folder)


def shard(file, tokens, magic=20_240_520):
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, len(tokens)
    file.write_bytes(header.tobytes() + np.asarray(tokens, "<u2").tobytes())


def test_fineweb_shards(folder):
    shard(folder / "fineweb_train_000001.bin", np.arange(2500) % 61)
    shard(folder / "fineweb_train_000002.bin", np.arange(1025) % 50)
    shard(folder / "fineweb_val_000000.bin", np.arange(1200) % 60)
    found = fineweb_gpt.fineweb_gpt(folder)
    assert (len(found.train), len(found.validation)) == (3, 1)
    assert found.train[1].tolist() == [token % 61 for token in range(1024, 2049)]
    assert found.train[2].tolist() == [token % 50 for token in range(1025)]
    assert found.validation[0].tolist() == [token % 60 for token in range(1025)]
    with pytest.raises(IndexError):
        found.train[3]
    trains(found, model=lambda: Gpt(64, 1024, width=8, heads=1, blocks=1, tied=True))


def test_fineweb_of_another_format(folder):
    shard(folder / "train.bin", range(2000), magic=1)
    with pytest.raises(UsageError, match=r"train.bin is no shard of tokens"):
        fineweb_gpt.fineweb_gpt(folder)
    shard(folder / "train.bin", range(2000))
    with (folder / "train.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UsageError, match="is no shard"):
        fineweb_gpt.fineweb_gpt(folder)
    shard(folder / "train.bin", range(1024))
    with pytest.raises(UsageError, match="found no window of 1025 tokens"):
        fineweb_gpt.fineweb_gpt(folder)


def test_fingerprints_change_with_the_files(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("a")
    first = user_files.fingerprint([one, two])
    assert user_files.fingerprint([one, two]) == first
    assert user_files.fingerprint([one]) != first
    two.write_text("ab")
    assert user_files.fingerprint([one, two]) != first
