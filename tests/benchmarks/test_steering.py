"""The bench of steering on a tiny run: a row for each wish, with what it is compared with."""

import json

import harness
import steering


def test_every_wish_is_compared_with_the_usual_list(tiny_run, few_users):
    options = harness.parse(steering.flags(), ["--users", "10", "--data", str(few_users), "--run", str(tiny_run)])
    result = json.loads(json.dumps(harness.complete("steering", options, steering.run(options)), allow_nan=False))
    rows = {row["wish"]: row for row in result["rows"]}
    assert rows["none"]["rank"] == 5.5 and rows["surprise"]["kept"] == 0
    for wish in ("prefer Comedy", "prefer Western"):
        assert rows[wish]["share"] > rows[wish]["share before"]
    assert rows["avoid Drama"]["share"] < rows["avoid Drama"]["share before"]
    assert rows["the first disliked"]["likeness"] < rows["the first disliked"]["likeness before"]
