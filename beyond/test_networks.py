"""What each network is told, sees and starts with, and what a variant changes.
python -m pytest beyond/test_networks.py"""

import pytest
import torch

import data
from beyond import networks, runs
from beyond.networks import Variant
from recurrent_unet import RecurrentUNet
from unet import UNet, initialise


def generator(seed):
    return torch.Generator().manual_seed(seed)


def some_images():
    return torch.randn(2, 1, 16, 16, generator=generator(2))


def inputs_of(module, net):
    """Return the inputs of a module of a network, each time that it runs."""
    seen = []
    hook = module.register_forward_hook(lambda module, given, made: seen.append(given))
    net(some_images())
    hook.remove()
    return seen


def second_mask(net):
    """Return what the second pass of a recurrent network sees for a mask, (n, 2, H, W)."""
    return inputs_of(net.unet.down[0], net)[1][0][:, 1:]


def test_recurrent_is_the_papers_where_nothing_is_switched():
    ours = networks.Recurrent(generator=generator(5))
    papers = initialise(RecurrentUNet(), generator(5))
    assert torch.equal(ours(some_images()), papers(some_images()))


@pytest.mark.parametrize("mask, has_gradient", [("own", True), ("detached", False)])
def test_a_pass_hands_on_its_own_mask(mask, has_gradient):
    net = networks.Recurrent(mask=mask, generator=generator(1))
    seen = second_mask(net)
    assert torch.equal(seen, torch.sigmoid(net(some_images())[:, 0]))
    assert seen.requires_grad == has_gradient


@pytest.mark.parametrize("mask, value", [("half", 0.5), ("pass", 1.0)])
def test_a_pass_hands_on_a_constant_for_its_mask(mask, value):
    net = networks.Recurrent(mask=mask, generator=generator(1))
    assert (second_mask(net) == value).all()


def test_a_pass_hands_on_new_noise_for_its_mask():
    net = networks.Recurrent(mask="noise", generator=generator(1))
    seen = second_mask(net)
    assert seen.std().item() == pytest.approx(12**-0.5, abs=0.03)  # uniform from 0 to 1
    assert not torch.equal(seen, second_mask(net))


@pytest.mark.parametrize(
    "state, is_zero, has_gradient",
    [("own", False, True), ("detached", False, False), ("zero", True, False)],
)
def test_a_pass_hands_on_the_state_that_it_says(state, is_zero, has_gradient):
    net = networks.Recurrent(state=state, generator=generator(1))
    _, second = inputs_of(net.unit, net)
    assert (second[1] == 0).all() == is_zero
    assert second[1].requires_grad == has_gradient


def test_told_the_pass_a_network_sees_the_image_and_a_number():
    net = networks.ToldPass(passes=3, generator=generator(1))
    calls = inputs_of(net.unet, net)
    assert [call[0][:, 1].unique().tolist() for call in calls] == [[0], [1], [2]]
    assert all(torch.equal(call[0][:, :1], some_images()) for call in calls)


def test_two_unets_see_the_image_and_the_second_the_first_mask_if_so():
    net = networks.TwoUNets(feed_mask=True, generator=generator(1))
    first = torch.sigmoid(net(some_images())[:, 0])
    seen = inputs_of(net.second, net)[0][0]
    assert torch.equal(seen, torch.cat((some_images(), first), 1))
    alone = networks.TwoUNets(generator=generator(1))
    assert torch.equal(inputs_of(alone.second, alone)[0][0], some_images())


@pytest.mark.parametrize(
    "shared, parts", [("nothing", ""), ("encoder", "down"), ("trunk", "down up merge")]
)
def test_twins_share_the_parts_that_they_say_and_differ_by_the_noise(shared, parts):
    net = networks.Twins(shared=shared, noise=0.01, generator=generator(1))
    for name, weights in net.first.named_parameters():
        other = net.second.get_parameter(name)
        if name.split(".")[0] in parts.split():
            assert other is weights
        elif len(weights.flatten()) > 1000:
            spread = (other - weights).std() / weights.std()
            assert spread.item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("lead", [-0.1, 0.02])
def test_a_lead_is_put_in_by_hand(lead):
    net = networks.Led(lead, generator=generator(1))
    images, parts = data.sample(32, generator(0))
    one, two = data.score(runs.decide(net, images), data.groupings(parts)).mean((0, 2))
    assert (one - two).item() == pytest.approx(lead, abs=1e-4)
    as_usual = initialise(UNet(1, 4), generator(1))
    ahead = slice(0, 2) if lead > 0 else slice(2, 4)
    assert torch.equal(net(images)[:, ahead], as_usual(images)[:, ahead])


def test_a_variant_changes_what_it_says_and_leaves_the_rest():
    v = Variant("", "UNet", {"out_channels": 4}, other={"shape.square": 6, "m": 0.7})
    s = v.settings(runs.Settings())
    assert s.shape == data.Shape(square=6)
    assert s.m == 0.7
    assert s.epochs == runs.Settings().epochs


@pytest.mark.parametrize("net", ["Recurrent", "ToldPass"])
def test_passes_are_those_of_the_settings(net):
    built = Variant("", net).build(runs.Settings(passes=3), generator(1))
    assert networks.decide(built, some_images()).shape == (2, 3, 2, 16, 16)


def test_monais_network_is_drawn_from_the_seed_alone():
    pytest.importorskip("monai")
    before = torch.random.get_rng_state()
    built = [networks.Monai(4, 16, 2, generator(k)) for k in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    images = torch.randn(2, 1, 32, 32, generator=generator(2))
    one, same, other = (net(images) for net in built)
    assert one.shape == (2, 4, 32, 32)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
