# The sidecar as an image: one static program, the roots that it trusts, and
# nothing else.
#
#	docker build -t authsome .
#
# The same sources, build image and arguments give the same bytes. BUILD_IMAGE is
# what everything is built with: a release names it by digest (docs/deploy.md).
ARG BUILD_IMAGE=docker.io/library/golang:1.26-bookworm

FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
ENV CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
WORKDIR /src
COPY go.mod go.sum ./
COPY deploy/sbom/go.mod deploy/sbom/go.sum deploy/sbom/
RUN --mount=type=cache,target=/go/pkg/mod go mod download && go -C deploy/sbom mod download
COPY . .
ARG VERSION=dev
ARG TARGETOS
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -buildid= -X main.version=$VERSION" -o /out/usr/bin/authsome ./cmd/authsome \
    && mkdir -p /out/usr/share/doc/authsome \
    && cp LICENSE /out/usr/share/doc/authsome/ \
    && go -C deploy/sbom run . /out/usr/bin/authsome "$VERSION" >/out/usr/share/doc/authsome/sbom.cdx.json
# Its directories exist, as its own, for a volume that takes their owner. Every
# file gets the same time, or no two images would be the same.
ARG SOURCE_DATE_EPOCH=0
RUN mkdir -p /out/etc/ssl/certs /out/etc/authsome /out/var/lib /out/run \
    && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
    && chmod -R u=rwX,go=rX /out && chmod 0755 /out/usr/bin/authsome \
    && install -d -o 65532 -g 65532 -m 0700 /out/var/lib/authsome \
    && install -d -o 65532 -g 65532 -m 0755 /out/run/authsome \
    && find /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM scratch
ARG VERSION=dev
ARG REVISION=
COPY --from=build /out/ /
LABEL org.opencontainers.image.title="authsome" \
      org.opencontainers.image.description="A proxy that attaches credentials to requests on their way out" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/usr/bin AUTHSOME_HOME=/var/lib/authsome
# A number, so that Kubernetes can see that it is not root; nobody's elsewhere.
USER 65532:65532
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/bin/authsome", "proxy", "--healthcheck"]
ENTRYPOINT ["/usr/bin/authsome"]
CMD ["proxy"]
