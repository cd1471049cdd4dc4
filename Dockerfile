# mauntic-jobs as an image: what is installed is pinned by hash, and it runs as a user that may do nothing else.

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/build
RUN /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
RUN python -m venv /opt/mauntic-jobs
RUN /opt/mauntic-jobs/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY mauntic_jobs mauntic_jobs
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /src/dist .
RUN /opt/mauntic-jobs/bin/pip install --no-cache-dir --no-deps --no-index /src/dist/*.whl

FROM python:3.13-slim
# The base image has its standard library as sources only, which every start of a program would compile.
RUN python -m compileall -q /usr/local/lib/python3.13
RUN useradd --system --no-create-home --shell /usr/sbin/nologin mauntic
COPY --from=build /opt/mauntic-jobs /opt/mauntic-jobs
ENV PATH=/opt/mauntic-jobs/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER mauntic
ENTRYPOINT ["mauntic-jobs"]
CMD ["schedule", "list"]
