"""How long a merge of two sharded checkpoints takes, and how much memory, beside two floors.

Makes two fine-tuned checkpoints and their base in the Hugging Face form (bfloat16, of the shapes
of a Llama), then, in turns and each in a process of its own: a floor that reads both models and
writes as many bytes as one has to the disk, another one that reads the base as well, and each
merge. Files are read once before, so that all find them where the system caches them. Time is
that of the work without imports; beside wall time stands the processor's, which says more on a
busy machine. Memory is the process's peak resident set, of which importing torch takes the part
that is printed. With ``--peer`` the same merges by mergekit, whose time holds its imports; so it
stands beside our whole process::

    python benchmarks/merge_files.py [--gigabytes 2] [--rounds 3] [--folder /tmp/merge-files]
        [--method slerp ...] [--peer VENV/bin/mergekit-yaml]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HIDDEN, WIDE, WORDS = 2048, 5632, 32000
METHODS = ("model-soups", "slerp", "task-arithmetic", "model-stock", "ties", "dare")
NEEDS_BASE = ("task-arithmetic", "model-stock", "ties", "dare")
PEER = {
    "model-soups": "linear",
    "slerp": "slerp",
    "task-arithmetic": "task_arithmetic",
    "model-stock": "model_stock",
    "ties": "ties",
    "dare": "dare_linear",
}
BUFFER = 8 << 20


def shapes(layers):
    found = {"model.embed_tokens.weight": (WORDS, HIDDEN)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name in "qkvo":
            found[f"{layer}self_attn.{name}_proj.weight"] = (HIDDEN, HIDDEN)
        found[layer + "mlp.gate_proj.weight"] = (WIDE, HIDDEN)
        found[layer + "mlp.up_proj.weight"] = (WIDE, HIDDEN)
        found[layer + "mlp.down_proj.weight"] = (HIDDEN, WIDE)
        found[layer + "input_layernorm.weight"] = (HIDDEN,)
        found[layer + "post_attention_layernorm.weight"] = (HIDDEN,)
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (WORDS, HIDDEN)}


def make(folder, gigabytes):
    """Write three checkpoints unless they are there; return the bytes of one."""
    import torch
    from safetensors.torch import save_file

    layer = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * WIDE + 2 * HIDDEN
    layers = max(1, round((gigabytes * 1e9 / 2 - 2 * WORDS * HIDDEN) / layer))
    names = shapes(layers)
    size = sum(2 * torch.Size(shape).numel() for shape in names.values())
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": WORDS,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    if (folder / "b" / "config.json").exists():
        known = json.loads((folder / "b" / "config.json").read_text())
        if known == config:
            return size
    for place, label in enumerate(("base", "a", "b")):
        out = folder / label
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        shards, held, weight = [{}], 0, {}
        for name, shape in names.items():
            if held > 900e6:
                shards.append({})
                held = 0
            shards[-1][name] = shape
            held += 2 * torch.Size(shape).numel()
        for i, shard in enumerate(shards, 1):
            file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
            tensors = {}
            for at, (name, shape) in enumerate(shard.items()):
                random = torch.Generator().manual_seed(1000 * i + at)
                x = torch.randn(shape, generator=random).mul_(0.02)
                if place:
                    random.manual_seed(10**6 * place + 1000 * i + at)
                    x.add_(torch.randn(shape, generator=random), alpha=0.002)
                tensors[name] = x.bfloat16()
            save_file(tensors, out / file, metadata={"format": "pt"})
            weight |= dict.fromkeys(shard, file)
        index = {"metadata": {"total_size": size}, "weight_map": weight}
        (out / "model.safetensors.index.json").write_text(json.dumps(index))
        (out / "config.json").write_text(json.dumps(config))
    return size


def floor(folder, labels, size):
    """Read the models and write zeros of the size of one to the disk."""
    begin, worked = time.perf_counter(), time.process_time()
    buffer = bytearray(BUFFER)
    for label in labels:
        for path in sorted((folder / label).glob("*.safetensors")):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
    with (folder / "floor").open("wb", buffering=0) as file:
        left = size
        while left > 0:
            left -= file.write(memoryview(buffer)[: min(left, BUFFER)])
        os.fsync(file.fileno())
    seconds, worked = time.perf_counter() - begin, time.process_time() - worked
    print(json.dumps({"seconds": seconds, "worked": worked}))
    (folder / "floor").unlink()


def ours(folder, method):
    import resource

    from thalweg.merge import merge_files

    imports = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    base = folder / "base" if method in NEEDS_BASE else None
    worked = time.process_time()
    done = merge_files(method, [folder / "a", folder / "b"], base, out=folder / "out")
    worked = time.process_time() - worked
    print(json.dumps({"seconds": done.seconds, "worked": worked, "imports": imports / 1024}))


def peer_config(folder, method):
    def model(label, **parameters):
        return {"model": str(folder / label), "parameters": parameters}

    config = {"merge_method": PEER[method], "dtype": "bfloat16"}
    if method == "slerp":
        config |= {"base_model": str(folder / "a"), "parameters": {"t": 0.5}}
        config["models"] = [{"model": str(folder / "a")}, {"model": str(folder / "b")}]
    elif method in NEEDS_BASE:
        given = {} if method == "model-stock" else {"weight": 1.0}
        if method == "ties":
            given["density"] = 0.2
        if method == "dare":
            given["density"] = 0.1
        config |= {"base_model": str(folder / "base")}
        config["models"] = [model("a", **given), model("b", **given)]
    else:
        config["models"] = [model("a", weight=1.0), model("b", weight=1.0)]
    path = folder / "peer.json"  # JSON is YAML
    path.write_text(json.dumps(config))
    return path


def run(command):
    """Run a process; return its seconds, (of the processor, peak MB), and the JSON it printed."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    text = process.stdout.read().decode()
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{errors}")
    lines = [line for line in text.splitlines() if line.startswith("{")]
    used = (usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    return seconds, used, json.loads(lines[-1]) if lines else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("merge-files"))
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--peer", type=Path, help="mergekit-yaml of an environment that has it")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.child:
        what, *rest = arguments.child
        if what == "floor":
            floor(folder, rest[1:], int(rest[0]))
        elif what == "make":
            print(json.dumps({"size": make(folder, arguments.gigabytes)}))
        else:
            ours(folder, rest[0])
        return
    again = [sys.executable, __file__, "--folder", str(folder)]
    again += ["--gigabytes", str(arguments.gigabytes), "--child"]
    size = run([*again, "make"])[2]["size"]
    largest = 2 * WORDS * HIDDEN
    print(
        f"each checkpoint {size / 1e9:.2f} GB, largest tensor {largest / 1e6:.0f} MB; memory's "
        f"limit 3 tensors + 300 MB = {3 * largest / 2**20 + 300:.0f} MB"
    )
    shutil.rmtree(folder / "out", ignore_errors=True)  # of an interrupted run
    methods = arguments.method or METHODS
    times, worked, memory = {}, {}, {}
    imports = 0.0

    def note(key, seconds, processor, peak=0.0):
        times.setdefault(key, []).append(seconds)
        worked.setdefault(key, []).append(processor)
        memory[key] = max(memory.get(key, 0.0), peak)

    for _ in range(arguments.rounds):
        for method in methods:
            labels = ["a", "b", "base"] if method in NEEDS_BASE else ["a", "b"]
            found = run([*again, "floor", str(size), *labels])[2]
            note(("floor", len(labels)), found["seconds"], found["worked"])
            note(("floor", method), found["seconds"], found["worked"])
            seconds, (processor, peak), found = run([*again, "ours", method])
            note(("ours", method), found["seconds"], found["worked"], peak)
            note(("process", method), seconds, processor)
            imports = found["imports"]
            shutil.rmtree(folder / "out")
            if arguments.peer:
                config = peer_config(folder, method)
                command = [arguments.peer, config, folder / "out", "--no-copy-tokenizer"]
                seconds, (processor, peak), _ = run(list(map(str, command)))
                note(("peer", method), seconds, processor, peak)
                shutil.rmtree(folder / "out")

    def median(table, *key):
        return statistics.median(table[key])

    def ratio(table, one, other, method):
        pairs = zip(table[one, method], table[other, method], strict=True)
        return statistics.median(a / b for a, b in pairs)

    for count in (2, 3):
        if ("floor", count) in times:
            print(
                f"floor, {count} read and 1 written: {median(times, 'floor', count):.2f} s, "
                f"processor {median(worked, 'floor', count):.2f} s"
            )
    print(f"imports alone: {imports:.0f} MB; seconds of the processor in parentheses")
    for method in methods:
        line = (
            f"{method:16} {median(times, 'ours', method):6.2f} s "
            f"({median(worked, 'ours', method):.2f}), {ratio(times, 'ours', 'floor', method):.2f} "
            f"of its floor, {memory['ours', method]:.0f} MB; "
            f"process {median(times, 'process', method):.2f} s "
            f"({median(worked, 'process', method):.2f})"
        )
        if arguments.peer:
            line += (
                f", {ratio(times, 'process', 'peer', method):.2f} "
                f"({ratio(worked, 'process', 'peer', method):.2f}) of mergekit's "
                f"{median(times, 'peer', method):.2f} s ({median(worked, 'peer', method):.2f}) "
                f"and {memory['peer', method]:.0f} MB"
            )
        print(line, flush=True)
    if not arguments.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
