"""What accepting is compared with: Flask routes that keep nothing, on the server that we use.

`python -m tests.bench.bare_server echo|noop PORT`
"""

import os
import sys

from flask import Flask, Response, jsonify, request

from events.envelope import workout_event_id
from events.process import die_with_parent, die_with_supervisor
from events.serving import serve


def echo_app() -> Flask:
    """Reads the JSON and gives the answer of accepting, the way one writes it with Flask."""
    die_with_parent(os.getppid())
    app = Flask(__name__)

    @app.post("/v1/workouts")
    def echo() -> tuple[Response, int, dict[str, str]]:
        workout = request.get_json()
        event_id = workout_event_id(workout["user_id"], workout["workout_id"])
        url = f"/v1/events/{event_id}"
        answer = jsonify(event_id=event_id, status_url=url, duplicate=False)
        return answer, 202, {"Location": url}

    return app


def noop_app() -> Flask:
    """Looks at nothing and says nothing."""
    die_with_parent(os.getppid())
    app = Flask(__name__)

    @app.post("/v1/workouts")
    def noop() -> str:
        return ""

    return app


if __name__ == "__main__":
    die_with_supervisor()
    serve(f"{__spec__.name}:{sys.argv[1]}_app", host="127.0.0.1", port=int(sys.argv[2]))
