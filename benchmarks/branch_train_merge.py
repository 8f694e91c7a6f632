"""Branch-Train-Merge on two domains: characters of Shakespeare's plays and of Python's library.

A GPT of two blocks and width 64 is trained on both domains (the seed), then copies of it go on, one
on each domain alone (the experts), and one on both for as many steps as the experts have together.
For each domain the posterior of the experts is found on 100 windows (`domain_posterior` after
each, `cached_prior` over all), and losses are means over 156 others: of each model; of the experts'
mean, plain and weighted by the posterior; and of the mixture of their outputs, under a uniform
prior and the cached one. Printed are nats per character, means over seeds and their range::

    python benchmarks/branch_train_merge.py [--seeds 2] [--steps 400]
"""

import argparse
import math
import string
import sysconfig
import time
from pathlib import Path

import torch
from ranges_table import print_ranges

from thalweg.merge import cached_prior, merge, mixture, named
from thalweg.workload import text
from thalweg.workload.gpt import Gpt, next_token_loss

ALPHABET = text.CHARACTERS + "".join(x for x in string.printable if x not in text.CHARACTERS)
DOMAINS = ("plays", "source")
KNOWN = 100  # windows that the posterior comes from
BATCH, RATE = 32, 4e-3


def library():
    """Return windows of the standard library's modules to train on and to validate on."""
    number = {x: i for i, x in enumerate(ALPHABET)}
    windows = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        found = [number[x] for x in path.read_text(encoding="utf-8") if x in number]
        size = len(found) // (text.CONTEXT + 1) * (text.CONTEXT + 1)
        windows.append(torch.tensor(found[:size]).reshape(-1, text.CONTEXT + 1))
    held_out = torch.cat(windows[11::12])
    chosen = torch.linspace(0, len(held_out) - 1, 256).long()
    return torch.cat([x for i, x in enumerate(windows) if i % 12 != 11]), held_out[chosen]


def network():
    return Gpt(len(ALPHABET), text.CONTEXT, width=64, blocks=2)


def train(weights, domains, steps, seed):
    """Return weights after training on batches that are drawn from all domains alike."""
    torch.manual_seed(seed)
    model = network()
    if weights is not None:
        model.load_state_dict(weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1)
    random = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        share = BATCH // len(domains)
        batch = [x[torch.randint(len(x), (share,), generator=random)] for x in domains]
        optimizer.zero_grad()
        next_token_loss(model, torch.cat(batch)).backward()
        optimizer.step()
    return {name: x.clone() for name, x in model.state_dict().items()}


@torch.no_grad()
def log_probabilities(weights, windows):
    """Return those of every next character, shape (windows, positions, characters)."""
    model = network()
    model.load_state_dict(weights)
    return model(windows[:, :-1]).log_softmax(-1).double()


def of_truth(found, windows):
    """Return the log-probabilities of the characters that come, shape (windows, positions)."""
    return found.gather(-1, windows[:, 1:, None])[..., 0]


def one_seed(seed, steps, data):
    """Return losses on both domains by model."""
    both = [train_windows.long() for train_windows, _ in data]
    start = train(None, both, steps, seed)
    experts = [train(start, [own], steps, 100 + seed) for own in both]
    dense = train(start, both, len(both) * steps, 100 + seed)
    found = {}

    def note(name, losses):
        found.setdefault(name, []).append(losses)

    for _, held_out in data:
        known, other = held_out.long()[:KNOWN], held_out.long()[KNOWN:]
        likelihoods = [of_truth(log_probabilities(w, known), known).sum(1) for w in experts]
        prior = cached_prior(torch.stack(likelihoods, 1))

        def loss(weights, other=other):
            return -of_truth(log_probabilities(weights, other), other).mean().item()

        note("the seed", loss(start))
        note("the seed trained on, on both", loss(dense))
        for domain, weights in zip(DOMAINS, experts, strict=True):
            note(f"expert of {domain}", loss(weights))
        note("mean of the experts' weights", loss(merge("model-soups", experts)))
        weighted = named(f"btm(weights={tuple(prior.tolist())})")
        note("mean by the domain's posterior", loss(merge(weighted, experts)))
        each = torch.stack([log_probabilities(w, other) for w in experts])
        for name, given in (("uniform", None), ("cached", prior)):
            mixed = [
                mixture(each[:, i], window[1:], given).gather(-1, window[1:, None]).mean()
                for i, window in enumerate(other)
            ]
            note(f"mixture of outputs, {name} prior", -torch.stack(mixed).mean().item())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400, help="of the seed and of an expert")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    # The plays' characters come first in the alphabet, so that their numbers stay.
    data = (text.plays("text"), library())
    rows = [one_seed(seed, arguments.steps, data) for seed in range(arguments.seeds)]
    print_ranges(rows, "nats per character", DOMAINS, 36)
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
