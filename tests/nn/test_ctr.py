"""CTR models: layers by hand, padding that changes nothing, batch equal to single, gradients everywhere."""

import numpy as np
import pytest
import torch

from llmrec.nn.ctr import DIN, CrossLayer, FieldAttention, GatedCrossLayer, make_ctr_net, mean_of_history
from llmrec.nn.item_inputs import ItemInputs, ItemPieces

KINDS = ("dnn", "dcn_v2", "din", "autoint", "gdcn")
B, H, F, E, C = 6, 5, 2, 4, 2


def net(kind, num_context=C):
    torch.manual_seed(0)
    return make_ctr_net(kind, F, E, num_context, hidden=(8, 4), dropout=0.0, num_layers=2).eval()


def batch(num_context=C):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([5, 4, 3, 2, 1, 0])
    mask = torch.arange(H) >= (H - lengths)[:, None]  # padded in front
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(B, F, E), draw(B, H, F, E), mask, draw(B, num_context)


def test_a_cross_layer_by_hand():
    layer = CrossLayer(2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        layer.linear.bias.copy_(torch.tensor([0.5, 1.0]))
    first, x = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -1.0]])
    # W x + b = (1 - 2 + .5, 1 + 1) = (-.5, 2); times x_0: (-1, 6); plus x: (0, 5)
    assert layer(first, x).tolist() == [[0.0, 5.0]]


def test_a_gated_cross_layer_by_hand_and_without_its_gate_it_is_half_a_cross():
    layer, plain = GatedCrossLayer(2), CrossLayer(2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        layer.linear.bias.copy_(torch.tensor([0.5, 1.0]))
        layer.gate.weight.copy_(torch.tensor([[float(np.log(3)), 0.0], [0.0, float(np.log(4))]]))
        plain.load_state_dict({name: weights for name, weights in layer.state_dict().items() if "gate" not in name})
    first, x = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -1.0]])
    # W x + b = (-.5, 2), times x_0: (-1, 6); the gate sigmoid(ln 3) = 3/4 and sigmoid(-ln 4) = 1/5; plus x
    assert layer(first, x)[0].tolist() == pytest.approx([-0.75 + 1, 6 / 5 - 1])
    with torch.no_grad():
        layer.gate.weight.zero_()
    assert torch.allclose(layer(first, x) - x, (plain(first, x) - x) / 2)


def test_field_attention_by_hand_on_two_fields():
    layer = FieldAttention(1, num_heads=1)
    with torch.no_grad():
        layer.query_key_value.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        layer.residual.weight.fill_(-1.0)
    fields = torch.tensor([[[1.0], [0.5]]])
    expected = []
    for field in (1.0, 0.5):
        weights = np.exp([field * 2 * 1.0, field * 2 * 0.5])
        weights /= weights.sum()
        expected.append(weights @ np.array([3.0, 1.5]) - field)
    assert layer(fields)[0, :, 0].tolist() == pytest.approx(expected)


def test_the_mean_of_a_history_leaves_padding_out_and_is_zero_without_items():
    _, history, mask, _ = batch()
    mean = mean_of_history(history, mask)
    assert torch.allclose(mean[2], history[2, -3:].mean(dim=0), atol=1e-6) and not mean[5].any()


def test_din_weighs_a_history_item_by_the_candidate_and_padding_by_nothing():
    din = net("din")
    assert isinstance(din, DIN)
    candidate, history, mask, _ = batch()
    weights = din.weights(candidate, history, mask)
    assert not weights[~mask].any() and (weights[mask] != 0).all()
    other = din.weights(candidate.flip(0), history, mask)
    assert not torch.allclose(weights[0], other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_at_padded_positions_changes_nothing(kind):
    candidate, history, mask, context = batch()
    filled = torch.where(mask[..., None, None], history, 1e6)
    assert torch.equal(net(kind)(candidate, history, mask, context), net(kind)(candidate, filled, mask, context))


@pytest.mark.parametrize("num_context", [0, C])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_rows_one_by_one(kind, num_context):
    tensors = batch(num_context)
    together = net(kind, num_context)(*tensors)
    alone = torch.cat([net(kind, num_context)(*(t[row : row + 1] for t in tensors)) for row in range(B)])
    assert together.shape == (B,) and torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_candidate_history_and_context_all_matter_and_every_parameter_gets_a_gradient(kind):
    tensors = [t.requires_grad_() if t.is_floating_point() else t for t in batch()]
    model = net(kind)
    model(*tensors).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    candidate, history, _, context = tensors
    assert all(t.grad[:5].abs().sum() > 0 for t in (candidate, history, context))
    assert not history.grad[5].any()  # an empty history


def inputs(use_ids=True, id_dropout=0.0):
    torch.manual_seed(0)
    made = ItemInputs(7, E, {"text": 3, "image": 5}, use_ids=use_ids, id_dropout=id_dropout)
    rng = np.random.default_rng(0)
    present = np.array([True] * 4 + [False] * 3)
    made.frozen("text").fit(rng.normal(5, 3, (7, 3)).astype(np.float32), np.ones(7, bool))
    made.frozen("image").fit(rng.normal(size=(7, 5)).astype(np.float32), present)
    return made


def test_fields_of_items_keep_the_shape_of_the_items_and_their_own_order():
    made = inputs()
    items = torch.tensor([[3, 0, 3], [6, 6, 1]])
    vectors = made(items)
    assert vectors.shape == (2, 3, 3, E) and torch.equal(vectors[0, 0], vectors[0, 2])
    assert torch.equal(vectors[..., 0, :], made.fields[0].rows[items])
    text = made.frozen("text")
    assert torch.allclose(vectors[1, 2, 1], text.projection(text.matrix[1]), atol=1e-6)


def test_an_absent_feature_reads_the_learned_vector_whatever_its_row_holds():
    made = inputs()
    image = made.frozen("image")
    with torch.no_grad():
        image.absent.fill_(3.0)
    assert torch.equal(made(torch.tensor([5]))[0, 2], torch.full((E,), 3.0)) and not image.matrix[5].any()
    rows = np.full((7, 5), np.nan, np.float32)
    image.replace(rows, np.zeros(7, bool))
    assert torch.isfinite(made(torch.arange(7))).all()


def test_matrices_are_centred_and_scaled_by_their_present_rows_and_never_trained():
    made = inputs()
    image = made.frozen("image").matrix[:4]
    assert torch.allclose(image.mean(dim=0), torch.zeros(5), atol=1e-6)
    assert image.square().sum(dim=1).mean().sqrt().item() == pytest.approx(3.0, abs=1e-5)
    assert not [name for name, _ in made.named_parameters() if "matrix" in name]


def test_every_part_of_the_inputs_learns_the_row_of_unknown_items_too():
    made = inputs(id_dropout=0.5).train()
    made(torch.arange(7)).square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
    with torch.no_grad():
        made.fields[0].unknown.fill_(2.0)
    made.fields[0].known[1] = False
    assert torch.equal(made.eval()(torch.tensor([1]))[0, 0], torch.full((E,), 2.0))


def of_pieces(rows, num_pieces=4):
    torch.manual_seed(0)
    made = ItemInputs(len(rows), E, {}, use_ids=False, pieces=(num_pieces, len(rows[0])))
    made.pieces.fit(ItemPieces(np.array(rows, np.int32), num_pieces))
    return made


def test_an_item_is_the_mean_of_its_word_pieces_and_without_one_a_learned_vector():
    made = of_pieces([[1, 3, 3], [2, 0, 0], [0, 0, 0]])
    with torch.no_grad():
        made.pieces.absent.fill_(7.0)
    rows = made.pieces.rows
    vectors = made(torch.tensor([0, 1, 2]))[:, 0]
    assert torch.allclose(vectors[0], (rows[1] + 2 * rows[3]) / 3, atol=1e-6) and torch.equal(vectors[1], rows[2])
    assert torch.equal(vectors[2], torch.full((E,), 7.0)) and torch.equal(made.pieces.table(), vectors)
    vectors.sum().backward()
    assert not rows.grad[0].any() and not rows.grad[4].any() and made.pieces.absent.grad.tolist() == [1.0] * E


def test_a_piece_that_no_known_item_has_is_read_as_if_it_were_not_there():
    made = of_pieces([[1, 2, 0], [2, 3, 0], [4, 0, 0]])
    made.pieces.forget_unless(torch.tensor([True, False, False]))
    rows = made.pieces.rows
    vectors = made(torch.tensor([0, 1, 2]))[:, 0]
    assert torch.allclose(vectors[0], (rows[1] + rows[2]) / 2, atol=1e-6) and torch.equal(vectors[1], rows[2])
    assert torch.equal(vectors[2], made.pieces.absent)
