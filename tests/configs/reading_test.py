"""What a setting means as it is written, in the flag and in a file: text stays text, and nothing is lost in silence."""

import math

import pytest
from absl import flags

from gan_test_case import imported_main
from trainers import configs
from trainers.training import run_directory

EXPERIMENT = "gan_digits32"


def path_of(text):
    return configs.resolve(EXPERIMENT, params_override=text).task.train_data.path


def message_of(override=(), files=()):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(EXPERIMENT, files, override)
    return str(caught.value)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


TEXTS = [
    "d0 #2",
    "007",
    "010000",
    "2024-01-31",
    "1:30",
    "1e3",
    "true",
    "null",
    "~/data",
    "*x",
    "a: b",
    "d[1]",
    "[a] b",
    "John's",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_the_flag_stays_as_it_is(text):
    assert path_of(f"task.train_data.path={text}") == text
    assert path_of(f"task.train_data.path={text},runtime.seed=3") == text
    assert path_of(f"runtime.seed=3, task.train_data.path = {text}") == text


@pytest.mark.parametrize("text", ["007", "010000", "2024-01-31", "1:30", "1e3", "true"])
def test_text_of_a_file_stays_as_it_is(tmp_path, text):
    file = write(tmp_path / "file.yaml", f"task:\n  train_data:\n    path: {text}\n")
    assert configs.resolve(EXPERIMENT, [file]).task.train_data.path == text


@pytest.mark.parametrize(
    "quoted, text",
    [
        ("'a,b'", "a,b"),
        ('"a,b"', "a,b"),
        ("'a]b'", "a]b"),
        ("'a=b, c=d'", "a=b, c=d"),
        ("' a '", " a "),
        ("'it''s'", "it's"),
        (r'"a\tb"', "a\tb"),
        ("''", ""),
        ("", ""),
    ],
)
def test_quotes_quote(quoted, text):
    params = configs.resolve(EXPERIMENT, params_override=f"task.train_data.path={quoted},runtime.seed=3")
    assert params.task.train_data.path == text and params.runtime.seed == 3


@pytest.mark.parametrize("text, number", [("010000", 10000), ("007", 7), ("1_000", 1000), (" 5 ", 5)])
def test_numbers_are_decimal(tmp_path, text, number):
    assert configs.resolve(EXPERIMENT, params_override=f"trainer.train_steps={text}").trainer.train_steps == number
    file = write(tmp_path / "file.yaml", f"trainer:\n  train_steps: {text}\n")
    assert configs.resolve(EXPERIMENT, [file]).trainer.train_steps == number


@pytest.mark.parametrize("text", ["1:30", "2024-01-31", "0x10", "1.5", "5 #2", "''", "", "null", "[1]"])
def test_what_is_no_number_is_refused(text):
    message = message_of(f"trainer.train_steps={text}")
    assert "`trainer.train_steps` must be of type int" in message
    assert f"--params_override=trainer.train_steps={text}" in message and "\n" not in message


def test_infinity_and_nothing_are_those_of_yaml(tmp_path):
    file = write(tmp_path / "file.yaml", "trainer:\n  loss_upper_bound: .inf\nruntime:\n  all_reduce_alg: null\n")
    params = configs.resolve(EXPERIMENT, [file])
    assert params.trainer.loss_upper_bound == math.inf and params.runtime.all_reduce_alg is None
    override = "trainer.loss_upper_bound=.inf,runtime.all_reduce_alg=null"
    assert configs.resolve(EXPERIMENT, params_override=override) == params


def test_spaces_stand_anywhere_between():
    params = configs.resolve(
        EXPERIMENT, params_override=" trainer.train_steps = 5 , task.augmentation = [ color , cutout ] , runtime.seed=1"
    )
    assert params.trainer.train_steps == 5 and params.task.augmentation == ["color", "cutout"]


def test_a_list_may_hold_text_in_brackets_and_quotes():
    message = message_of("task.augmentation=[color, 'a,b]', cutout],runtime.seed=1")
    assert "`task.augmentation` must be one of" in message and "Received: 'a,b]'" in message


def test_nested_list_is_refused_by_name():
    message = message_of("task.model.generator.attention_blocks=[[1],[2]],runtime.seed=1")
    assert "`task.model.generator.attention_blocks` must be of type list[int]" in message


def test_element_of_a_list_is_refused_with_the_whole_list():
    message = message_of("task.model.generator.attention_blocks[0]=2")
    assert message == (
        "`task.model.generator.attention_blocks[0]` is an element of a list, which is given whole: "
        "task.model.generator.attention_blocks=[...]"
    )


@pytest.mark.parametrize("text, closing", [("path=[a,split=x", "]"), ("path='a,split=x", "'"), ("path={a", "}")])
def test_what_is_not_closed_is_refused(text, closing):
    message = message_of(f"task.train_data.{text}")
    assert f"A value has no closing {closing} in --params_override=task.train_data.{text}" in message


@pytest.mark.parametrize("pair", ["task.train_data.path='a' #b", "task.augmentation=[color] #b"])
def test_text_after_a_quote_or_a_bracket_is_refused(pair):
    message = message_of(pair)
    assert f"The value must end with {pair[-4]}, as it begins. Received: {pair!r}" == message


def test_group_may_be_given_whole():
    trainer = configs.resolve(EXPERIMENT, params_override="trainer={train_steps: 5, max_to_keep: 3}").trainer
    assert (trainer.train_steps, trainer.max_to_keep) == (5, 3)


def test_several_flags_all_count():
    params = configs.resolve(EXPERIMENT, params_override=["trainer.train_steps=5,runtime.seed=3", "", "runtime.tpu=''"])
    assert params.trainer.train_steps == 5 and params.runtime.seed == 3


@pytest.mark.parametrize("main", ["train_gan", "train_inpainting", "evaluate"])
def test_the_flag_repeats(main):
    required = ["--model_dir=x"] + ["--experiment=x"] * (main != "evaluate")
    with imported_main(f"trainers.{main}"):
        try:
            flags.FLAGS([main, *required, "--params_override=a=1,b=2", "--params_override=c='3,4'"])
            assert flags.FLAGS.params_override == ["a=1,b=2", "c='3,4'"]
        finally:
            flags.FLAGS.unparse_flags()


@pytest.mark.parametrize(
    "override", ["runtime.seed=1,trainer.train_steps=5, runtime.seed=2", ["runtime.seed=1", "runtime.seed=2"]]
)
def test_setting_that_is_given_twice_is_refused(override):
    message = message_of(override)
    assert message == "`runtime.seed` is given twice, as runtime.seed=1 and as runtime.seed=2. Give it once."


def test_group_that_stands_twice_in_a_file_is_refused(tmp_path):
    file = write(
        tmp_path / "file.yaml", "trainer:\n  train_steps: 5\nruntime:\n  seed: 1\ntrainer:\n  max_to_keep: 3\n"
    )
    message = message_of(files=[file])
    assert file in message and "`trainer` stands twice in one group, in lines 1 and 5" in message


def test_setting_that_stands_twice_in_a_file_is_refused(tmp_path):
    file = write(tmp_path / "file.yaml", "trainer:\n  train_steps: 5\n  train_steps: 6\n")
    assert "`train_steps` stands twice in one group, in lines 2 and 3" in message_of(files=[file])


@pytest.mark.parametrize("text", ["trainer.train_steps: 5\n", "task:\n  model.latent_dim: 5\n"])
def test_dotted_key_of_a_file_is_refused_with_the_form_that_is_meant(tmp_path, text):
    file = write(tmp_path / "file.yaml", text)
    message = message_of(files=[file])
    assert file in message and "has a dot: groups of a file are nested, as in `trainer: {train_steps: 5}`" in message


def test_merged_groups_of_a_file_still_work(tmp_path):
    text = (
        "trainer:\n  generator_optimizer: &both {beta_1: 0.5, beta_2: 0.75}\n"
        "  discriminator_optimizer:\n    <<: *both\n    beta_2: 0.5\n"
    )
    trainer = configs.resolve(EXPERIMENT, [write(tmp_path / "file.yaml", text)]).trainer
    assert (trainer.generator_optimizer.beta_1, trainer.generator_optimizer.beta_2) == (0.5, 0.75)
    assert (trainer.discriminator_optimizer.beta_1, trainer.discriminator_optimizer.beta_2) == (0.5, 0.5)


def test_file_that_is_not_utf_8_is_refused_by_name(tmp_path):
    (tmp_path / "file.yaml").write_bytes("# Größe\n".encode("latin-1"))
    assert str(tmp_path / "file.yaml") in message_of(files=[str(tmp_path / "file.yaml")])


def test_value_that_leads_nowhere_is_refused_by_name():
    message = message_of("task.train_data.path=${nowhere}")
    assert "`task.train_data.path` has no value" in message and "\n" not in message


@pytest.mark.parametrize("text", [*TEXTS, "a,b", "it's #1", " a ", ""])
def test_every_text_comes_back_from_the_folder_of_the_run(tmp_path, text):
    params = configs.resolve(EXPERIMENT)
    params.task.train_data.path = text
    run_directory.prepare(str(tmp_path), params)
    assert configs.load_params(tmp_path / "params.yaml") == params
