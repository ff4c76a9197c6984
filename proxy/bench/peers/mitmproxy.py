# The whole of the mitmproxy contestant: attach, stream, and dial where the name points.
import os
def request(flow): flow.request.headers["authorization"] = os.environ["BENCH_AUTHORIZATION"]
def responseheaders(flow): flow.response.stream = True
def requestheaders(flow): flow.request.stream = True; request(flow)
def server_connect(data): data.server.sni, data.server.address = data.server.address[0], ("127.0.0.1", int(os.environ["BENCH_" + data.server.address[0].split(".")[0].upper()]))
