# Made by `runtime-image/build dockerfiles` from images.toml; not edited by hand.
#
#   docker build -t NAME -f runtime-image/dockerfiles/pilotlight.Dockerfile \
#       --build-context programs=target/release runtime-image
FROM debian:bookworm-slim AS root
RUN apt-get update && apt-get install --yes --no-install-recommends mmdebstrap python3 python3-pip
COPY build images.toml /source/
COPY builder /source/builder
COPY requirements /source/requirements
RUN /source/build root pilotlight /image
COPY --from=programs --chmod=755 pilotlight /image/usr/local/bin/pilotlight

FROM scratch
COPY --from=root /image /
ENV PATH="/usr/local/bin:/usr/bin:/bin"
USER 993:990
WORKDIR /
ENTRYPOINT ["/usr/local/bin/pilotlight"]
