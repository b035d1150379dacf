"""Table 3: what is counted and timed."""

import pytest
import torch

from wsi_maxmin.paper import InferenceTable, inference_table, load_inference
from wsi_maxmin.pipelines import _inference_times
from wsi_maxmin.pipelines._inference_times import count_parameters, measure_inference

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_row_has_the_published_number_of_parameters():
    assert count_parameters() == {row.config: row.parameters for row in load_inference().rows}


def test_grad_cam_by_backward_passes_is_what_the_closed_form_gives():
    torch.manual_seed(0)
    row = next(row for row in load_inference().rows if row.backward)
    network = _inference_times._build(row).eval()
    image = torch.randint(0, 256, (1, 3, 160, 192), dtype=torch.uint8)
    with torch.no_grad():
        # Evidence that differs in sign from place to place, and is that of one class where it is not of the other.
        mean = network.encoder(network.normalise(image)).mean(dim=(0, 2, 3))
        weight = torch.randn(len(mean))
        weight -= (weight @ mean) / (mean @ mean) * mean
        network.conv.weight.copy_(torch.stack([-weight, weight])[:, :, None, None])
    closed = _inference_times._segment(network, image, (96, 80))
    assert closed.shape == (1, 1, 80, 96)
    assert 0.2 < closed.float().mean() < 0.8
    assert (_inference_times._by_backward(network, image, (96, 80)) == closed).float().mean() > 0.999


def test_an_image_is_read_as_its_config_says():
    glas, p512 = load_inference().images
    assert _inference_times._network_px(glas) == (641, 432)
    assert _inference_times._network_px(p512) == (512, 512)


def test_rows_take_turns_and_the_first_round_does_not_count(monkeypatch):
    turns = []
    monkeypatch.setattr(_inference_times, "_segment", lambda *_: turns.append("closed"))
    monkeypatch.setattr(_inference_times, "_by_backward", lambda *_: turns.append("backward"))
    published = load_inference().model_dump()
    published["rows"] = [row for row in published["rows"] if "Grad-CAM" in row["title"]]
    published["images"] = [{**published["images"][1], "size_px": (32, 32)}]
    table = InferenceTable.model_validate(published)
    measured = measure_inference(torch.device("cpu"), table=table, rounds=3)
    assert turns == ["closed", "backward"] * 4
    assert (measured["device"], measured["threads"], measured["rounds"]) == ("cpu", 1, 3)
    assert measured["images"] == [{"name": "P512", "size_px": [32, 32], "network_px": [32, 32]}]
    for row in measured["rows"]:
        times = row["seconds"]["P512"]
        assert 0 <= times["lowest"] <= times["median"] <= times["highest"]


def test_measured_times_are_shown_with_what_they_were_measured_on():
    times = {name: {"median": 0.25, "lowest": 0.2, "highest": 0.5} for name in ("GlaS", "P512")}
    measured = {
        "device": "cpu", "device_name": "Some CPU", "threads": 1, "rounds": 10,
        "images": [{"name": "GlaS", "size_px": [775, 522], "network_px": [641, 432]}],
        "rows": [{"title": row.title, "seconds": times} for row in load_inference().rows],
        "packages": {"torch": "2.11.0"},
    }  # fmt: skip
    text = inference_table(count_parameters(), measured).markdown()
    assert "| Max-Min | 11,335,252 | 0.2500 | 0.2500 | 1.00 | 11,335,252 | 0.0190 | 1.00 |" in text
    assert "| CAM-Avg | 11,177,538 | 0.2500 | 0.2500 | 1.00 | 11,177,538 | 0.3300 | 17.37 |" in text
    assert "the slowest round took up to 2.5 times as long as the fastest" in text
    assert "medians of 10 rounds" in text
    assert "GlaS 775×522 px, read at 641×432" in text
    assert "on cpu (Some CPU, 1 thread of torch) with torch 2.11.0; the paper's times are of a GTX 1080 Ti" in text
