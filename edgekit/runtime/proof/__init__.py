"""The proof of a GPU: before it answers for the first time, its results are compared with the processor's.

wire.py      protobuf, as far as a graph needs it
graph.py     the nodes of ``model.onnx``, and models of single nodes
kernels.py   the distinct kernels of a graph, each against the processor at the sizes it is used with
adapter.py   which GPU and driver this machine has
verdict.py   the result, and the file it is kept in
prove.py     the order of all this, and the ways out when a kernel is wrong
"""
