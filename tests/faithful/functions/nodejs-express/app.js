// An ordinary Express application. Nothing in it is specific to Lambda.
const express = require('express');

const app = express();
app.use(express.json());
app.get('/orders/:id', (request, response) => {
  response.set('X-Found', 'yes').cookie('seen', request.params.id);
  response.json({ id: request.params.id, only: request.query.only, from: request.get('x-from') });
});
app.post('/orders', (request, response) => response.status(201).json({ made: request.body }));
app.get('/image', (request, response) => response.type('png').send(Buffer.from([0x89, 0x50, 0xff])));
app.get('/fails', () => {
  throw new Error('no such shelf');
});
app.use((request, response) => response.status(404).json({ missing: request.path }));
app.use((error, request, response, next) => response.status(500).json({ error: error.message }));
module.exports = app;
