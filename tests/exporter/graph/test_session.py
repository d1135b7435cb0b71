"""The session used for checks at export."""

import numpy as np

from clearweight.exporter.graph import session


def test_model_and_bytes_open_alike_and_runs_repeat(pooled_cnn, exported):
    module, images = pooled_cnn
    model = exported(module, images)
    feed = {"input": images.numpy()}

    first, again = (session(source).run(None, feed)[0] for source in (model, model.SerializeToString()))

    assert first.tobytes() == again.tobytes()


def test_threads_and_provider_are_as_asked(perceptron, exported):
    opened = session(exported(*perceptron), threads=2)

    assert opened.get_session_options().intra_op_num_threads == 2
    assert opened.get_providers() == ["CPUExecutionProvider"]
    assert np.isfinite(opened.run(None, {"input": perceptron[1].numpy()})[0]).all()
