"""Flask, for gunicorn."""

from flask import Flask, jsonify

from state import State

app = Flask(__name__)
state = State()


@app.route("/")
def index():
    return jsonify(state.answer(6 * 7))
