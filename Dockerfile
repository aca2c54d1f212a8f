# docker build --build-arg VERSION=1.0.0 --build-arg COMMIT="$(git rev-parse HEAD)" -t lingpai:1.0.0 .
#
# Base images by tag, so that this file builds everywhere. For a release pin the
# build image by digest, golang:1.26-alpine@sha256:…, as shown by: docker buildx
# imagetools inspect golang:1.26-alpine.

FROM golang:1.26-alpine AS build
# Your own module mirror, if you need one: --build-arg GOPROXY=https://…
ARG GOPROXY
ENV CGO_ENABLED=0 GOTOOLCHAIN=local
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Behind the downloads, so that a new version does not repeat them.
ARG VERSION=dev
ARG COMMIT=
RUN go build -trimpath -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /out/lingpai .
# What the program needs beside itself: certificates, a place for lingpai.db, and
# a temporary directory for bodies that are measured on disk.
RUN mkdir -p /out/certs /out/writable/data /out/writable/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /out/certs/ \
 && chmod 0700 /out/writable/data \
 && chmod 1777 /out/writable/tmp

FROM scratch
COPY --from=build /out/certs/ /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /out/writable/ /
COPY LICENSE /LICENSE
COPY --from=build /out/lingpai /lingpai
# A number: without /etc/passwd there are no names, and runAsNonRoot wants one.
USER 65532:65532
VOLUME ["/data"]
# proxy, callback, metrics, admin
EXPOSE 9060 9061 9062 9063
ENTRYPOINT ["/lingpai"]
CMD ["serve", "-config", "/etc/lingpai/config.yaml"]
