"""FastAPI with pandas and scikit-learn: a table is made and a model fitted while it starts; it answers predictions."""

import numpy
import pandas
from fastapi import FastAPI
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from state import State

app = FastAPI()
state = State()

table = pandas.DataFrame({"x": numpy.arange(1000.0)})
table["y"] = 3 * table["x"] + 1
line = LinearRegression().fit(table[["x"]], table["y"])
forest = RandomForestRegressor(n_estimators=20, random_state=1, n_jobs=2).fit(table[["x"]], table["y"])


@app.get("/")
def index(n: float = 10):
    at = pandas.DataFrame({"x": [n]})
    return {**state.answer(round(float(line.predict(at)[0]), 6)), "forest": float(forest.predict(at)[0]),
            "mean": table.groupby(table["x"] % 2)["y"].mean().tolist()}


@app.on_event("shutdown")
def ended():
    print("ended in order", flush=True)
