# Made by `runtime-image/build dockerfiles` from images.toml; not edited by hand.
#
#   docker build -t NAME -f runtime-image/dockerfiles/ruby3.1.Dockerfile \
#       --build-context programs=target/release --build-context runtimes=runtimes runtime-image
FROM debian:bookworm-slim AS root
RUN apt-get update && apt-get install --yes --no-install-recommends mmdebstrap python3 python3-pip
COPY build images.toml /source/
COPY builder /source/builder
COPY requirements /source/requirements
COPY --from=runtimes ruby /runtimes/ruby
RUN /source/build root ruby3.1 /image
COPY --from=programs --chmod=755 pilotlight-supervisor /image/usr/local/bin/pilotlight-supervisor

FROM scratch
COPY --from=root /image /
ENV AWS_EXECUTION_ENV="AWS_Lambda_ruby3.1"
ENV GEM_PATH="/var/task/vendor/bundle/ruby/3.1.0:/opt/ruby/gems/3.1.0:/usr/share/rubygems-integration/all:/usr/share/rubygems-integration/3.1.0:/usr/lib/ruby/gems/3.1.0:/var/lib/gems/3.1.0"
ENV LAMBDA_RUNTIME_DIR="/var/runtime"
ENV LAMBDA_TASK_ROOT="/var/task"
ENV LANG="en_US.UTF-8"
ENV LD_LIBRARY_PATH="/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
ENV PATH="/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
ENV RUBYLIB="/var/task:/var/task/lib:/opt/ruby/lib"
ENV TZ=":UTC"
USER 993:990
WORKDIR /var/task
ENTRYPOINT ["/usr/local/bin/pilotlight-supervisor"]
