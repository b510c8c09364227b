// Express.
const express = require("express");
const state = require("./state");

const app = express();
app.get("/", (request, response) => response.json(state.answer(6 * 7)));
state.endInOrder(app.listen(8000, "0.0.0.0"));
