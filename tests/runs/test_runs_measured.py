"""The rows of a measurement as a table."""

from diffmamba.runs.measured import table


def test_whole_numbers_stay_whole_beside_rows_without_them() -> None:
    rows = [
        {"measure": "nats", "value": 2.0},
        {"measure": "nats", "value": 1, "layer": 3, "quantile": 0.5, "lens": "tuned"},
        {"measure": "nats", "value": 1.5, "layer": 4, "quantile": 1, "lens": "logit"},
    ]
    assert table(rows).to_csv(index=False).splitlines() == [
        "measure,value,layer,quantile,lens",
        "nats,2.0,,,",
        "nats,1.0,3,0.5,tuned",
        "nats,1.5,4,1.0,logit",
    ]
