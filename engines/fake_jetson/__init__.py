"""A Jetson without a Jetson: stand-ins for `pycuda.driver`, `tensorrt` and the driver library, for tests.

They follow the real libraries where those are unforgiving: a call needs a current context, work on a stream
waits until somebody synchronises, fresh memory holds garbage, a plan of another version is refused. What the
real ones answer with a crash is written down as a violation. Plans run in ONNX Runtime.

Start at `engines.fake_jetson.jetson`.
"""
