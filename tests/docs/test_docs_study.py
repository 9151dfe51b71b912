"""The study's page says what its data say."""

import json

import pages

STUDY = pages.ROOT / "docs" / "study"


def number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("-", "−")


def test_every_number_of_the_tables_is_that_of_the_data() -> None:
    text = (STUDY.parent / "study.md").read_text()
    for file in sorted(STUDY.glob("*.json")):
        content = json.loads(file.read_text())
        trained = [row for row in content["rows"] if row["ppl_mean"] is not None]
        effects = [effect for effect in content.get("effects", []) if effect["delta_low"] is not None]
        assert trained
        for row in trained:
            words = [row["model"], "yes" if row["outer_norm"] else "no", row["lambda_form"] or "–", len(row["seeds"])]
            begin = "| " + " | ".join(map(str, words)) + f" | {number(row['ppl_mean'])} ± {number(row['ppl_std'])} |"
            assert begin in text, (file.name, begin)
        for effect in effects:
            interval = f"{number(effect['delta_low'], '+')}, {number(effect['delta_high'], '+')}"
            begin = f"| {effect['effect']} | {len(effect['seeds'])} | {number(effect['delta'], '+')} | {interval} |"
            assert begin in text, (file.name, begin)
