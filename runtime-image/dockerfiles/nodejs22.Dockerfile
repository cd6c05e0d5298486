# Made by `runtime-image/build dockerfiles` from images.toml; not edited by hand.
#
#   docker build -t NAME -f runtime-image/dockerfiles/nodejs22.Dockerfile \
#       --build-context programs=target/release --build-context runtimes=runtimes runtime-image
FROM debian:bookworm-slim AS root
RUN apt-get update && apt-get install --yes --no-install-recommends mmdebstrap python3 python3-pip cmake g++ make npm xz-utils
COPY build images.toml /source/
COPY builder /source/builder
COPY requirements /source/requirements
COPY --from=runtimes nodejs /runtimes/nodejs
RUN /source/build root nodejs22 /image
COPY --from=programs --chmod=755 pilotlight-supervisor /image/usr/local/bin/pilotlight-supervisor

FROM scratch
COPY --from=root /image /
ENV AWS_EXECUTION_ENV="AWS_Lambda_nodejs22.x"
ENV LAMBDA_RUNTIME_DIR="/var/runtime"
ENV LAMBDA_TASK_ROOT="/var/task"
ENV LANG="en_US.UTF-8"
ENV LD_LIBRARY_PATH="/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
ENV NODE_PATH="/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
ENV PATH="/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
ENV PILOTLIGHT_STARTS_WRAPPER="1"
ENV TZ=":UTC"
USER 993:990
WORKDIR /var/task
ENTRYPOINT ["/usr/local/bin/pilotlight-supervisor"]
