"""Small checkpoints to merge, and how to read what came out."""

import hashlib
import json
import os
import traceback

import torch
from safetensors.torch import load_file, save_file

SHAPES = {
    "embed.weight": (11, 6),
    "layers.0.weight": (6, 6),
    "layers.0.bias": (6,),
    "layers.1.weight": (4, 6),
    "scale": (),
    "nothing": (0, 3),
}


def weights(seed, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    found = {n: torch.randn(shape, generator=random).to(dtype) for n, shape in SHAPES.items()}
    return found | {"places": torch.arange(5)}


def write(folder, tensors, shards=1, config=None):
    """Write a folder in the Hugging Face form; return it."""
    folder.mkdir(parents=True)
    if config is None:
        config = {"model_type": "tiny", "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    table = {}
    for i in range(shards):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        save_file(part, folder / name)
        table |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def read(folder):
    """Return all tensors of a folder by the library's own reader."""
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def digests(*folders):
    """Return the contents of folders, to see that nothing changed them."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def forked(work):
    """Do work in a child of this process, which has imported everything; return its status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def same(found, wanted):
    return found.keys() == wanted.keys() and all(
        found[n].dtype == x.dtype and torch.equal(found[n], x) for n, x in wanted.items()
    )
