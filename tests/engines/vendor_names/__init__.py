"""Finds every use of TensorRT and pycuda in a package, and the versions in which it would fail.

An abstract interpreter over syntax trees. It follows a vendor's objects through variables, attributes,
containers, calls and our own classes, all modules together, until nothing new is learnt. `hasattr` narrows
the versions that get past it. What it cannot follow, it reports: silence means that all is well.

| module | what |
|---|---|
| `api` | the vendors' names by version, and what their calls return |
| `facts` | what each name of ours may stand for; what was found |
| `calls`, `expressions` | what an expression may stand for |
| `walk` | statements, and the whole: `find_uses` |
"""
