// Node's own HTTP server.
const http = require("http");
const state = require("./state");

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify(state.answer(6 * 7)));
});
server.listen(8000, "0.0.0.0");
state.endInOrder(server);
