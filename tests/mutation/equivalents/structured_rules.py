"""Mutants of masked, factored and low-rank rules that no test can tell, each with the reason."""

_SHARDED = (
    "does nothing to a whole tensor; the run on two processes in the conformance suite needs it"
)

_THREADS = "decides how many threads share the work, and which terms are added up first"

_IN_C = (
    "return dtype in ({}) and all((type(x) in _PLAIN and x.is_cpu and (x.dtype == dtype) "
    "for x in tensors)) and all((x.is_contiguous() and x.numel() > 0 for x in tensors)) "
    "and (_function('average', dtype) is not None)"
)

EQUIVALENTS: dict[str, dict[tuple[str, str], str]] = {
    "engine/factored.py": {
        (
            "_PLAIN = (Tensor, torch.nn.Parameter)",
            "_PLAIN = (torch.nn.Parameter, Tensor)",
        ): "it is looked for in both, in whichever order",
        (
            _IN_C.format("torch.float32, torch.float64"),
            _IN_C.format("torch.float64, torch.float32"),
        ): "it is looked for in both, in whichever order",
        (
            "dtype = tensors[0].dtype",
            "dtype = tensors[1].dtype",
        ): "where the dtypes differ, the answer is no whichever is taken",
        **{
            ("threads = torch.get_num_threads() if x.numel() > SERIAL else 1", after): _THREADS
            for after in (
                "threads = 1 if x.numel() > SERIAL else torch.get_num_threads()",
                "threads = torch.get_num_threads() if x.numel() >= SERIAL else 1",
                "threads = torch.get_num_threads() if x.numel() <= SERIAL else 1",
                "threads = torch.get_num_threads() if x.numel() > SERIAL else 2",
            )
        },
        (
            "memory = np.zeros((threads + 1, m + _CHUNK + 1))",
            "memory = np.zeros((threads + 2, m + _CHUNK + 1))",
        ): "a row of zeros that no thread writes to adds nothing",
        **{
            ("_CHUNK = 1024", f"_CHUNK = {near}"): "decides only which terms are added up first"
            for near in (1023, 1025)
        },
    },
    "engine/mars.py": {
        (
            "return {'shrink': 1.0 if norm <= 1 else 1 / norm}",
            "return {'shrink': 1.0 if norm < 1 else 1 / norm}",
        ): "both are 1 for a norm of 1",
    },
    "engine/cautious.py": {
        (
            "Scaling = Literal['mean', 'count']",
            "Scaling = Literal['count', 'mean']",
        ): "the order of the choices is that of an error's words",
        (
            "return entries / max(agreeing, 0.001 * entries) if entries else 1.0",
            "return entries / max(agreeing, 0.001 * entries) if entries else 1.2",
        ): "a tensor without entries has nothing to multiply",
    },
    "optim/adam_mini.py": {
        (
            "squares = gathered(g).reshape(shape).square().sum(1) / max(size, 1)",
            "squares = g.reshape(shape).square().sum(1) / max(size, 1)",
        ): _SHARDED,
        (
            "return (gathered(m).reshape(shape) / root.reshape(count, 1)).reshape(p.shape)",
            "return (m.reshape(shape) / root.reshape(count, 1)).reshape(p.shape)",
        ): _SHARDED,
    },
    "optim/mars_shampoo.py": {
        (
            "m = gathered(s.exp_avg.lerp_(c, 1 - k.beta1)) / (1 - k.beta1)",
            "m = s.exp_avg.lerp_(c, 1 - k.beta1) / (1 - k.beta1)",
        ): _SHARDED,
        (
            "return like(o * max(1.0, rows / max(columns, 1)) ** 0.5, c)",
            "return o * max(1.0, rows / max(columns, 1)) ** 0.5",
        ): _SHARDED,
    },
    "optim/cautious_muon.py": {
        (
            "o = orthogonalised(gathered(u), exact=False, steps=self.ns_steps)",
            "o = orthogonalised(u, exact=False, steps=self.ns_steps)",
        ): _SHARDED,
    },
}
