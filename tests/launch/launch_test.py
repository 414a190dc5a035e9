"""The files of `trainers/launch` and the commands of docs/clusters.md, against the code and the fields they use.

The file is long because each launch file and the page that shows it are run against one stand-in for the cluster.
"""

import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from absl import flags

from trainers import configs, program
from trainers.training import cluster_resolvers

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "trainers" / "launch"
PAGE = ROOT / "docs" / "clusters.md"
SHELL = sorted(path.name for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))
PERMANENT = {program.EXIT_REFUSED, program.EXIT_DIVERGED, program.EXIT_NOT_EVALUATED, program.EXIT_NOT_WRITTEN}

# The fields that the files use, by path, as the API references of Kubernetes and of Kubeflow's operator have them.
OBJECT = {"apiVersion": str, "kind": str, "metadata.name": str}
POD = {
    "terminationGracePeriodSeconds": int,
    "securityContext.fsGroup": int,
    "containers[].name": str,
    "containers[].image": str,
    "containers[].command[]": str,
    "containers[].args[]": str,
    "containers[].env[].name": str,
    "containers[].env[].value": str,
    "containers[].ports[].name": str,
    "containers[].ports[].containerPort": int,
    "containers[].resources.limits.nvidia.com/gpu": int,
    "containers[].volumeMounts[].name": str,
    "containers[].volumeMounts[].mountPath": str,
    "volumes[].name": str,
    "volumes[].persistentVolumeClaim.claimName": str,
    "volumes[].emptyDir.medium": str,
}
SERVICE = {
    **OBJECT,
    "spec.clusterIP": str,
    "spec.publishNotReadyAddresses": bool,
    "spec.selector.job-name": str,
    "spec.ports[].name": str,
    "spec.ports[].port": int,
}
JOB = {
    **OBJECT,
    "spec.completionMode": str,
    "spec.completions": int,
    "spec.parallelism": int,
    "spec.backoffLimit": int,
    "spec.podFailurePolicy.rules[].action": str,
    "spec.podFailurePolicy.rules[].onExitCodes.containerName": str,
    "spec.podFailurePolicy.rules[].onExitCodes.operator": str,
    "spec.podFailurePolicy.rules[].onExitCodes.values[]": int,
    "spec.podFailurePolicy.rules[].onPodConditions[].type": str,
    "spec.template.spec.subdomain": str,
    "spec.template.spec.restartPolicy": str,
    **{f"spec.template.spec.{path}": kind for path, kind in POD.items()},
}
TFJOB = {
    **OBJECT,
    "spec.runPolicy.backoffLimit": int,
    "spec.runPolicy.cleanPodPolicy": str,
    **{
        f"spec.tfReplicaSpecs.{task}.{path}": kind
        for task in ("Chief", "Worker")
        for path, kind in {
            "replicas": int,
            "restartPolicy": str,
            **{f"template.spec.{path}": kind for path, kind in POD.items()},
        }.items()
    },
}
# The options of sbatch that the file uses, of its manual.
SBATCH = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task"}
SBATCH |= {"time", "signal", "requeue", "open-mode"}

# What a script starts notes what it was started with, in place of doing it.
STUB = """#!{python}
import json, os, sys
names = ("TF_CONFIG", "SLURM_CPUS_PER_TASK")
call = [os.path.basename(sys.argv[0]), sys.argv[1:], {{name: os.environ.get(name) for name in names}}]
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(call) + "\\n")
sys.exit(int(os.environ.get("CODE", 0)) if call[0] != "scontrol" else 0)
"""


def text_of(name):
    return (LAUNCH / name).read_text(encoding="utf-8")


def leaves(value, path=""):
    """Pairs of path and value, with `[]` for any place in a list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, value


def check_fields(document, fields):
    for path, value in leaves(document):
        assert path in fields, f"there is no field {path}"
        assert type(value) is fields[path], f"{path} must be of type {fields[path].__name__}: {value!r}"


def parsed(words):
    """The flags of a command, `python -m trainers.name --flag=value ...`, by the main's own definitions."""
    assert words[:2] == ["python", "-m"] and words[2].startswith("trainers."), words
    name = words[2]
    sys.modules.pop(name, None)  # mains share names of flags
    importlib.import_module(name)
    try:
        rest = flags.FLAGS([name, *words[3:]])
        assert rest == [name], f"everything is a flag, but {rest[1:]}"
        return {flag.name: flag.value for flag in flags.FLAGS.get_flags_for_module(name)}
    finally:
        for flag in flags.FLAGS.get_flags_for_module(name):
            delattr(flags.FLAGS, flag.name)
        flags.FLAGS.unparse_flags()


def resolved(words):
    """The configuration of a command that trains, as the main resolves it."""
    values = parsed(words)
    params = configs.resolve(values["experiment"], values["config_file"], values["params_override"])
    assert words[2] == f"trainers.train_{params.application}", f"{values['experiment']} is of {params.application}"
    program._steps(values["profile_steps"])
    return params


def check_batch(params, processes):
    replicas = processes * (params.runtime.num_gpus or 1)
    assert replicas > 1 and params.task.train_data.global_batch_size % replicas == 0


def run_script(text, folder, *arguments, **environment):
    """Runs a script with stubs for what it starts; its exit code, its errors, and the calls of the stubs."""
    folder.mkdir(exist_ok=True)
    for name in ("python", "srun", "scontrol"):
        (folder / name).write_text(STUB.format(python=sys.executable), encoding="utf-8")
        (folder / name).chmod(0o755)
    script, calls = folder / "script", folder / "calls"
    script.write_text(text, encoding="utf-8")
    calls.write_text("", encoding="utf-8")
    done = subprocess.run(
        ["bash", str(script), *arguments],
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls), **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr, [json.loads(line) for line in calls.read_text(encoding="utf-8").splitlines()]


def cluster_of(runtime, **environment):
    """What the code makes of the environment of a process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("TF_CONFIG", "SLURM_", "JOB_", "WORKER_"))]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        resolver = cluster_resolvers.cluster_resolver(runtime)
        return resolver.cluster_spec().as_dict(), resolver.task_type, resolver.task_id


def check_one_process(strategy, text, folder):
    code, errors, calls = run_script(text, folder, "--profile_steps=10:20", MODEL_DIR="runs/here")
    assert code == 0 and len(calls) == 1, errors
    name, arguments, _ = calls[0]
    values, params = parsed([name, *arguments]), resolved([name, *arguments])
    assert (values["model_dir"], values["profile_steps"], values["mode"]) == ("runs/here", "10:20", "train_and_eval")
    assert params.runtime.distribution_strategy == strategy
    assert ((params.runtime.num_gpus or 0) > 1) == (strategy == "mirrored")
    check_batch(params, 8 if strategy == "tpu" else 1)


def check_two_machines(text, folder):
    hosts = ["a:2222", "b:2222"]
    for index in (0, 1):
        code, errors, calls = run_script(text, folder, str(index), *hosts, MODEL_DIR="/shared/run")
        assert code == 0 and len(calls) == 1, errors
        name, arguments, environment = calls[0]
        params = resolved([name, *arguments])
        assert params.runtime.distribution_strategy == "multi_worker_mirrored" and params.runtime.num_gpus
        found = cluster_of(params.runtime, TF_CONFIG=environment["TF_CONFIG"])
        assert found == ({"worker": hosts}, "worker", index)
        check_batch(params, len(hosts))
    for wrong in ([], ["0", "a:2222"], ["2", *hosts], ["b", *hosts]):
        code, errors, calls = run_script(text, folder, *wrong, MODEL_DIR="/shared/run")
        assert code == program.EXIT_REFUSED and "Usage" in errors and not calls
    code, errors, calls = run_script(text, folder, "0", *hosts)
    assert code and "a folder that all machines share" in errors and not calls


def directives_of(text):
    """The options of sbatch, which reads them only before the first command."""
    head = re.split(r"^(?!#|\s*$)", text, maxsplit=1, flags=re.MULTILINE)[0]
    assert head.count("#SBATCH") == text.count("#SBATCH"), "after the first command sbatch reads no options"
    lines = re.findall(r"^#SBATCH (.*)$", head, re.MULTILINE)
    matches = [re.fullmatch(r"--([a-z-]+)(?:=(\S+))?", line) for line in lines]
    assert all(matches), lines
    found = {match[1]: match[2] for match in matches}
    assert len(found) == len(lines) and set(found) <= SBATCH, sorted(set(found) - SBATCH)
    return found


def check_slurm(text, folder):
    options = directives_of(text)
    nodes, tasks = int(options["nodes"]), int(options["ntasks-per-node"])
    start = {"MODEL_DIR": "/shared/run", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": options["cpus-per-task"]}
    code, errors, calls = run_script(text, folder, **start)
    assert code == 0 and [call[0] for call in calls] == ["srun"], errors
    words = calls[0][1]
    place = words.index("python")
    assert words[:place] == [f"--cpus-per-task={options['cpus-per-task']}", "--kill-on-bad-exit=0", "--wait=0"]
    params = resolved(words[place:])
    runtime = params.runtime
    assert runtime.distribution_strategy == "multi_worker_mirrored" and runtime.cluster == "slurm"
    assert nodes * tasks > 1 and tasks * runtime.num_gpus == int(options["gpus-per-node"])
    assert tasks == 1, "else each task needs --gpus-per-task to see no others' GPUs"
    check_batch(params, nodes * tasks)
    for number in range(nodes * tasks):
        cluster, kind, index = cluster_of(
            runtime,
            SLURM_PROCID=str(number),
            SLURM_STEP_NUM_TASKS=str(nodes * tasks),
            SLURM_STEP_NODELIST=f"node[1-{nodes}]",
            SLURM_STEP_TASKS_PER_NODE=f"{tasks}(x{nodes})",
        )
        assert len(cluster["worker"]) == nodes * tasks and (kind, index) == ("worker", number)
    assert re.fullmatch(r"\d+:\d\d:\d\d", options["time"]) and options["open-mode"] == "append"
    # Without B: it is the tasks that get the signal; and `requeue` takes no value.
    lead = re.fullmatch(r"TERM@(\d+)", options["signal"])
    assert lead and int(lead[1]) >= runtime.grace_seconds and options["requeue"] is None
    again = [["scontrol", ["requeue", "7"]]]
    for code, restarts, wanted in [
        (program.EXIT_START_AGAIN, "3", again),
        (137, "3", again),
        (program.EXIT_START_AGAIN, "50", []),
        *((code, "0", []) for code in (0, 1, *PERMANENT)),
    ]:
        found, _, calls = run_script(text, folder, CODE=str(code), SLURM_RESTART_COUNT=restarts, **start)
        assert found == code and [call[:2] for call in calls[1:]] == wanted, f"{code} after {restarts} restarts"


def check_pod(pod, processes):
    """What both kinds of pods must hold; the container and its configuration."""
    assert len(pod["containers"]) == 1
    container = pod["containers"][0]
    params = resolved(container["command"] + container["args"])
    runtime = params.runtime
    assert runtime.distribution_strategy == "multi_worker_mirrored"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == runtime.num_gpus
    assert pod["terminationGracePeriodSeconds"] >= runtime.grace_seconds
    assert f"--uid={pod['securityContext']['fsGroup']} " in (LAUNCH.parents[1] / "Dockerfile").read_text()
    check_batch(params, processes)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    shared = [mounts[volume["name"]] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    data = params.task.train_data, params.task.validation_data
    paths = [parsed(container["command"] + container["args"])["model_dir"], *(one.path for one in data)]
    assert len(shared) == 1 and all(path.startswith(shared[0] + "/") for path in paths), paths
    return container, runtime


def check_kubernetes(text, folder):
    del folder
    service, job = yaml.safe_load_all(text)
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    check_fields(service, SERVICE)
    check_fields(job, JOB)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    container, runtime = check_pod(pod, spec["completions"])
    assert runtime.cluster == "kubernetes"

    job_name, service_name = job["metadata"]["name"], service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"job-name": job_name} and pod["subdomain"] == service_name
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    ports = [port["port"] for port in service["spec"]["ports"]]
    assert [port["containerPort"] for port in container["ports"]] == ports and len(ports) == 1
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    hosts = [f"{job_name}-{index}.{service_name}:{ports[0]}" for index in range(spec["completions"])]
    for index in range(spec["completions"]):
        found = cluster_of(runtime, JOB_COMPLETION_INDEX=str(index), **environment)
        assert found == ({"worker": hosts}, "worker", index)

    assert pod["restartPolicy"] == "Never" and spec["backoffLimit"] >= 10 * spec["completions"]
    fails, ignores = spec["podFailurePolicy"]["rules"]
    assert fails["action"] == "FailJob" and fails["onExitCodes"]["containerName"] == container["name"]
    assert fails["onExitCodes"]["operator"] == "In" and set(fails["onExitCodes"]["values"]) == PERMANENT
    assert ignores == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}


def check_tfjob(text, folder):
    del folder
    (job,) = yaml.safe_load_all(text)
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    check_fields(job, TFJOB)
    assert job["spec"]["runPolicy"]["backoffLimit"] and job["spec"]["runPolicy"]["cleanPodPolicy"] == "Running"
    tasks = job["spec"]["tfReplicaSpecs"]
    count = sum(task["replicas"] for task in tasks.values())
    assert "Worker" in tasks and count > 1, "the operator sets no TF_CONFIG for one task"
    cluster, runtimes = {}, []
    for kind, task in tasks.items():
        assert task["restartPolicy"] == "OnFailure"
        container, runtime = check_pod(task["template"]["spec"], count)
        assert runtime.cluster == "tf_config"
        assert container["name"] == "tensorflow" and container["ports"][0]["name"] == "tfjob-port"
        # As the operator does it.
        cluster[kind.lower()] = [
            f"{job['metadata']['name']}-{kind.lower()}-{index}.default.svc:{container['ports'][0]['containerPort']}"
            for index in range(task["replicas"])
        ]
        runtimes.append((kind.lower(), runtime))
    for kind, runtime in runtimes:
        for index in range(len(cluster[kind])):
            content = {"cluster": cluster, "task": {"type": kind, "index": index}, "environment": "cloud"}
            assert cluster_of(runtime, TF_CONFIG=json.dumps(content)) == (cluster, kind, index)


CHECKS = {
    "one_machine.sh": lambda text, folder: check_one_process("mirrored", text, folder),
    "two_machines.sh": check_two_machines,
    "slurm.sbatch": check_slurm,
    "kubernetes_job.yaml": check_kubernetes,
    "tfjob.yaml": check_tfjob,
    "tpu.sh": lambda text, folder: check_one_process("tpu", text, folder),
}


def test_every_file_is_checked_and_named_on_the_page():
    names = {path.name for path in LAUNCH.iterdir()}
    assert names == set(CHECKS)
    assert set(re.findall(r"`trainers/launch/([\w.]+)`", PAGE.read_text(encoding="utf-8"))) == names


@pytest.mark.parametrize("name", SHELL)
def test_shell_reads_the_script(name):
    assert text_of(name).startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(LAUNCH / name)], check=True)


@pytest.mark.parametrize("name", list(CHECKS))
def test_file_fits_the_code_and_itself(name, tmp_path):
    CHECKS[name](text_of(name), tmp_path)


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("one_machine.sh", "--mode=", "--modes="),
        ("one_machine.sh", "train_and_eval", "train_eval"),
        ("one_machine.sh", "runtime.num_gpus", "runtime.gpus"),
        ("one_machine.sh", ":-4}", ":-3}"),
        ("one_machine.sh", "=mirrored", "=mirror"),
        ("one_machine.sh", ' "$@"', ""),
        ("two_machines.sh", "gan_imagenet128", "gan_imagenet"),
        ("two_machines.sh", "runtime.cluster=tf_config", "runtime.cluster=slurm"),
        ("two_machines.sh", r"\"worker\", \"index\"", r"\"evaluator\", \"index\""),
        ("two_machines.sh", "%,}", "}"),
        ("two_machines.sh", "$# -lt 3", "$# -lt 1"),
        ("two_machines.sh", "MODEL_DIR:?", "MODEL_DIR:-"),
        ("slurm.sbatch", "--gpus-per-node=4", "--gpus-per-node=8"),
        ("slurm.sbatch", "--ntasks-per-node=1", "--ntasks-per-node=4"),
        ("slurm.sbatch", "--nodes=2", "--node=2"),
        ("slurm.sbatch", "TERM@60", "B:TERM@60"),
        ("slurm.sbatch", "TERM@60", "TERM@30"),
        ("slurm.sbatch", "#SBATCH --nodes", "set -u\n#SBATCH --nodes"),
        ("slurm.sbatch", "runtime.cluster=slurm", "runtime.cluster=tf_config"),
        ("slurm.sbatch", "-eq 75", "-eq 74"),
        ("slurm.sbatch", "-gt 128", "-gt 2"),
        ("slurm.sbatch", "-lt 50", "-lt 500"),
        ("slurm.sbatch", 'exit "$code"', "exit 0"),
        ("slurm.sbatch", " --wait=0", ""),
        ("kubernetes_job.yaml", "completions: 2", "completions: 3"),
        ("kubernetes_job.yaml", "parallelism: 2", "parallelism: 1"),
        ("kubernetes_job.yaml", "completionMode: Indexed", "completionMode: NonIndexed"),
        ("kubernetes_job.yaml", "completionMode", "completionsMode"),
        ("kubernetes_job.yaml", "clusterIP: None", "clusterIP: 10.0.0.1"),
        ("kubernetes_job.yaml", "job-name: an ", "job-name: keras "),
        ("kubernetes_job.yaml", "subdomain: an-workers", "subdomain: an"),
        ("kubernetes_job.yaml", "an-1.an-workers", "an-1.an"),
        ("kubernetes_job.yaml", "an-1.an-workers:2222", "an-1.an-workers:2223"),
        ("kubernetes_job.yaml", "port: 2222", "port: 2223"),
        ("kubernetes_job.yaml", "containerPort: 2222", "containerPort: 2223"),
        ("kubernetes_job.yaml", "WORKER_HOSTS", "WORKERS"),
        ("kubernetes_job.yaml", "[2, 3, 4, 74]", "[2, 3, 4, 75]"),
        ("kubernetes_job.yaml", "containerName: trainer", "containerName: main"),
        ("kubernetes_job.yaml", "restartPolicy: Never", "restartPolicy: OnFailure"),
        ("kubernetes_job.yaml", "nvidia.com/gpu: 4", "nvidia.com/gpu: 8"),
        ("kubernetes_job.yaml", "runtime.num_gpus=4", "runtime.num_gpus=8"),
        ("kubernetes_job.yaml", "GracePeriodSeconds: 60", "GracePeriodSeconds: 30"),
        ("kubernetes_job.yaml", "runtime.cluster=kubernetes", "runtime.cluster=tf_config"),
        ("kubernetes_job.yaml", "backoffLimit: 100", "backoffLimit: 6"),
        ("kubernetes_job.yaml", "backoffLimit: 100", 'backoffLimit: "100"'),
        ("kubernetes_job.yaml", "--model_dir=/data", "--model_dir=/tmp"),
        ("kubernetes_job.yaml", "trainers.train_gan", "trainers.train_inpainting"),
        ("tfjob.yaml", "kubeflow.org/v1", "kubeflow.org/v2"),
        ("tfjob.yaml", "restartPolicy: OnFailure", "restartPolicy: ExitCode"),
        ("tfjob.yaml", "    Worker:", "    Evaluator:"),
        ("tfjob.yaml", "replicas: 2", "replicas: 1"),
        ("tfjob.yaml", "replicas: 2", "replicas: 3"),
        ("tfjob.yaml", "name: tensorflow ", "name: trainer "),
        ("tfjob.yaml", "tfjob-port", "grpc"),
        ("tfjob.yaml", "nvidia.com/gpu: 4", "nvidia.com/gpu: 8"),
        ("tfjob.yaml", "GracePeriodSeconds: 60", "GracePeriodSeconds: 30"),
        ("tfjob.yaml", "runtime.cluster=tf_config", "runtime.cluster=kubernetes"),
        ("tfjob.yaml", "cleanPodPolicy: Running", "cleanPodsPolicy: Running"),
        ("tpu.sh", "=tpu\n", "=mirrored\n"),
        ("tpu.sh", "runtime.tpu=", "runtime.tpus="),
    ],
)
def test_a_wrong_file_is_noticed(name, old, new, tmp_path):
    text = text_of(name)
    assert old in text
    with pytest.raises((AssertionError, KeyError, ValueError, flags.Error)):
        CHECKS[name](text.replace(old, new), tmp_path)


def commands_of(text):
    """The lines of the blocks of shell code, joined where they go on, as words."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.strip()]


COMMANDS = commands_of(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "python"], ids=lambda words: words[2])
def test_command_of_the_page_is_understood(words):
    if words[2] == "trainers.evaluate":
        assert parsed(words)["model_dir"]
    else:
        resolved(words)


def test_other_commands_of_the_page_name_files_that_there_are():
    assert {words[2] for words in COMMANDS if words[0] == "python"} == {
        "trainers.train_gan",
        "trainers.train_inpainting",
        "trainers.evaluate",
    }
    named = [word for words in COMMANDS for word in words if word.startswith("trainers/launch/")]
    assert {ROOT / name for name in named} == set(LAUNCH.iterdir())
    (content,) = (words[1] for words in COMMANDS if words[0] == "export")
    runtime = configs.schema.RuntimeConfig()
    cluster, kind, index = cluster_of(runtime, TF_CONFIG=content.partition("=")[2])
    assert len(cluster["worker"]) == 2 and (kind, index) == ("worker", 0)


@pytest.mark.parametrize("name, strategy", [("one_machine.sh", "mirrored"), ("tpu.sh", "tpu")])
def test_page_shows_the_command_of_the_script(name, strategy, tmp_path):
    _, _, calls = run_script(text_of(name), tmp_path)
    shown = [words for words in COMMANDS if f"distribution_strategy={strategy}," in words[-1]]
    assert [words[1:] for words in shown] == [calls[0][1]]


def test_table_of_exit_codes_is_that_of_the_code():
    section = (
        (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("# Exit codes")[2].partition("\n#")[0]
    )
    codes = re.findall(r"^\| (\d+) \|", section, re.MULTILINE)
    assert [int(code) for code in codes] == sorted({0, *PERMANENT, program.EXIT_START_AGAIN})
