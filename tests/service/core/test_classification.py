import numpy as np

from clearweight.service.core.classification import likeliest, triton_strings

LOGITS = np.array([[1.0, 3.0, 2.0, 3.0], [-1e4, 0.0, 1e4, 5.0]], np.float32)
LABELS = ("ant", "bee", "cat")  # one class has no label


def slow(row, count):
    total = sum(np.exp(float(value) - float(max(row))) for value in row)
    order = sorted(range(len(row)), key=lambda index: (-row[index], index))[:count]
    return order, [np.exp(float(row[index]) - float(max(row))) / total for index in order]


def test_the_likeliest_classes_with_label_and_probability():
    for count in (1, 3, 4, 9):
        classes, labels, probabilities = (tensor.values for tensor in likeliest(LOGITS, LABELS, count))
        for row in range(2):
            order, expected = slow(LOGITS[row], count)
            assert classes[row].tolist() == order
            assert [label.decode() for label in labels[row]] == [[*LABELS, "3"][index] for index in order]
            np.testing.assert_allclose(probabilities[row], expected, rtol=1e-6)


def test_the_strings_of_tritons_extension():
    found = triton_strings("logits", LOGITS[:1], LABELS, 3)

    assert (found.name, found.datatype) == ("logits", "BYTES")
    assert found.values.tolist() == [[b"3.000000:1:bee", b"3.000000:3", b"2.000000:2:cat"]]
