# Nightline's worker and commands in one image; the site folder is mounted, never copied.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements-dev.lock ./
# the build backend and what it needs, by the hashes of the lock: nothing is fetched unpinned
RUN awk '/^[a-z]/ {keep = $1 ~ /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} keep' requirements-dev.lock > build.lock \
    && pip install --no-cache-dir --disable-pip-version-check --require-hashes -r build.lock
COPY pyproject.toml README.md LICENSE ./
COPY models/ models/
COPY streams/ streams/
COPY training/ training/
COPY console/ console/
COPY nightline/ nightline/
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /dist .

FROM python:3.12-slim
# the home folder keeps compiled kernels between starts; created here so that a volume on it belongs to the user
RUN useradd --create-home --uid 10001 nightline \
    && install -d -o nightline -g nightline /home/nightline/.cache /site
WORKDIR /home/nightline
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY --from=build /dist /tmp/dist
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps /tmp/dist/*.whl && rm -r /tmp/dist
USER nightline
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["nightline"]
CMD ["--help"]
