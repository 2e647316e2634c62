"""A server that takes Anthropic and OpenAI requests and answers them from one endpoint.

It is codecs and an endpoint: `policy` says what may go up, `translate` and `rules` what may come
down, `app` the routes, `serve` the socket.
"""
