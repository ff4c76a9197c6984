# The whole of the mitmproxy contestant: attach, stream, and dial where the name points.
import os
def requestheaders(flow): flow.request.headers["authorization"], flow.request.stream = os.environ["BENCH_AUTHORIZATION"], True
def responseheaders(flow): flow.response.stream = True
def server_connect(data): data.server.sni, data.server.address = data.server.address[0], ("127.0.0.1", int(os.environ["BENCH_" + data.server.address[0].split(".")[0].upper()]))
