"""Terms that keep the student close to the teacher on the same pictures: the equations. `terms` has their table.

Maps are `[B, h, w, C]`, feature vectors `[B, C]`, of any float type; the result is `[B]` float32, one value per picture
(the caller takes the mean), 0 where the student equals the teacher, if the term has one. The teacher gets no gradient;
the student's is finite everywhere, maps of zeros included. Features of shapes that cannot be tied raise UserError.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from ctd_jax.errors import UserError
from ctd_jax.typing import Params

_HIGHEST = jax.lax.Precision.HIGHEST  # float32 even where the default is bfloat16 or TF32


def classifier_distance(student: Array, teacher: Array, *, temperature: float, form: str) -> Array:
    """Distance of the softened classifier outputs (CTD-CD), `[B, C]` logits or embeddings.

    l2:  L_i = ||softmax(t_i / T) - softmax(s_i / T)||_2^2           (Fu et al. 2020, Eq. 3)
    kl:  L_i = T^2 KL(softmax(t_i / T) || softmax(s_i / T))          (Hinton et al. 2015)

    `l2` is a reconstruction: the text has T, the softmax and no cross-entropy; the norm is lost.
    """
    if form not in ("l2", "kl"):
        raise UserError(f"the form of the classifier distance is {form!r}; expected l2 or kl")
    _same_shape(student, teacher)
    student, teacher = (jax.nn.log_softmax(x / temperature) for x in _float32(student, teacher))
    if form == "l2":
        return jnp.sum((jnp.exp(teacher) - jnp.exp(student)) ** 2, axis=-1)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def encoder_distance(student: Array, teacher: Array, *, over: str = "map") -> Array:
    """Cosine distance between the features of the two encoders (CTD-ED), `[B, ...]`; in [0, 2].

    L_i = 1 - <s_i, t_i> / (|s_i| |t_i|)      (Fu et al. 2020, Eq. 4)

    A reconstruction: the text says cosine, the axes are lost. `over` chooses them: `map`, the flattened map;
    `location`, the channels at each place, averaged over places; `pooled`, the channels of the mean over places.
    """
    if over not in ("map", "location", "pooled"):
        raise UserError(f"the cosine of the encoder distance is over {over!r}; expected map, location or pooled")
    _same_shape(student, teacher)
    student, teacher = _float32(student, teacher)
    if over == "map":
        student, teacher = (x.reshape(x.shape[0], -1) for x in (student, teacher))
    elif over == "pooled":
        student, teacher = _pool(student), _pool(teacher)
    distance = optax.losses.cosine_distance(student, teacher, epsilon=1e-12)
    return jnp.mean(distance.reshape(distance.shape[0], -1), axis=-1)


def spatial_attention_distance(student: Array, teacher: Array) -> Array:
    """Squared distance of the spatial attention maps (RTL); h and w must agree, channels need not.

    L_i = || A(s_i) / |A(s_i)| - A(t_i) / |A(t_i)| ||_2^2,   A(F) = sum_c F_c^2      (Fu et al. 2021)

    A reconstruction: the abstract names the constraint; the map is Zagoruyko and Komodakis's (2017), with p = 2.
    """
    _same_shape(student, teacher, slice(-1), "height and width")
    student, teacher = _float32(student, teacher)
    return jnp.sum((_spatial_attention(student) - _spatial_attention(teacher)) ** 2, axis=-1)


def channel_attention_distance(student: Array, teacher: Array) -> Array:
    """Squared distance of the channel attentions (RTL); channels must agree, h and w need not.

    L_i = || a(s_i) / |a(s_i)| - a(t_i) / |a(t_i)| ||_2^2,   a(F)_c = mean over places of F_c^2      (Fu et al. 2021)

    A reconstruction: the abstract names the constraint; this is the spatial one with the axes exchanged.
    """
    _same_shape(student, teacher, slice(-1, None), "number of channels")
    student, teacher = (_unit(_pool(x**2)) for x in _float32(student, teacher))
    return jnp.sum((student - teacher) ** 2, axis=-1)


def attention_transfer(student: Array, teacher: Array) -> Array:
    """Distance of the spatial attention maps; h and w must agree, channels need not.

    L_i = || Q(s_i) / |Q(s_i)| - Q(t_i) / |Q(t_i)| ||_2,   Q(F) = sum_c F_c^2
    (Zagoruyko and Komodakis 2017, Eq. 2, p = 2; their code has the mean square instead)

    Not squared, so the gradient does not shrink as the two come close. A distance below 1e-6 is rounding and counts
    as 0, with no gradient.
    """
    _same_shape(student, teacher, slice(-1), "height and width")
    student, teacher = _float32(student, teacher)
    return _norm(_spatial_attention(student) - _spatial_attention(teacher), below=1e-6)


def heatmap_distance(student: Array, teacher: Array) -> Array:
    """Squared error between the heatmaps of student and teacher, `[B, h, w, K]`, averaged over cells and landmarks.

    L_KD = 1 / (h w K) sum_k ||h_k - t_k||_F^2      (FPD, Zhang et al. 2019, Fast Human Pose Estimation, Eq. 4)

    FPD minimises (1 - a) L_H + a L_KD with a = 0.5: up to a factor, which Adam takes out, L_H + a / (1 - a) L_KD, so
    a weight of 1. All landmarks that the teacher has learned count, those that nobody annotated here too: there the
    teacher is all there is. `Terms` leaves out the others.
    """
    _same_shape(student, teacher)
    student, teacher = _float32(student, teacher)
    return jnp.mean((student - teacher) ** 2, axis=(1, 2, 3))


def consistency(student: Array, average: Array, known: Array) -> Array:
    """Squared error between the student's heatmaps of a picture under augmentation and those that the moving average of
    its weights has for the picture as it is, moved in the same way; averaged over the cells that are known.

    L_i = sum_x,k m_ixk (s_ixk - (A_i t_i)_xk)^2 / sum_x,k m_ixk

    The mean teacher (Tarvainen and Valpola 2017, arXiv 1703.01780: E ||f(x, w', n') - f(x, w, n)||^2, w' the average of
    the weights w), after temporal ensembling (Laine and Aila 2017, arXiv 1610.02242), for landmarks, which must move
    with their picture (Honari et al. 2018, arXiv 1709.01591, of points; Moskvyak et al. 2021, arXiv 2101.07988, of
    heatmaps; both without an average). It needs no labels. That the average sees the picture as it is, is ours: both of
    the mean teacher's views are augmented. Scaled heatmaps are wider or narrower than those of labels, by the factor.

    Args:
      student: s, `[B, h, w, K]`.
      average: A t, same shape, moved by the map A_i of the student's augmentation.
      known: m, `[B, h, w, K]` bool: the cell shows a part of the picture, and the landmark is of its domain.
    """
    _same_shape(student, average)
    student, average = _float32(student, average)
    error = jnp.where(known, (student - average) ** 2, 0.0)
    return jnp.sum(error, axis=(1, 2, 3)) / jnp.maximum(jnp.sum(known, axis=(1, 2, 3)), 1)


def hint_distance(student: Array, teacher: Array, *, form: str = "plain") -> Array:
    """Squared error between the student's features, through an adapter where widths differ, and the teacher's.

    plain:       L_i = 1 / (2 n) ||r(s_i) - t_i||_2^2                         (FitNets, Romero et al. 2015, Eq. 3)
    normalized:  L_i = 1 / 2 || r(s_i) / |r(s_i)| - t_i / |t_i| ||_2^2,  in [0, 2]

    The equation has no n, the number of elements; with it a weight means the same at every layer. `normalized` takes
    each picture's map as one vector: then layers of large features do not outweigh the others. It is the feature term
    of FSF-LD (Huang et al. 2022), a reconstruction: of the text we have that intermediate features are shared; the
    distance, the layers and the adapters are lost. `plain` is the alternative that configs/fsf_ld.py names.
    """
    if form not in ("plain", "normalized"):
        raise UserError(f"the form of the hint is {form!r}; expected plain or normalized")
    _same_shape(student, teacher)
    student, teacher = _float32(student, teacher)
    if form == "normalized":
        student, teacher = (_unit(x.reshape(x.shape[0], -1)) for x in (student, teacher))
        return 0.5 * jnp.sum((student - teacher) ** 2, axis=-1)
    return 0.5 * jnp.mean(((student - teacher) ** 2).reshape(student.shape[0], -1), axis=-1)


def relational_distance(student: Array, teacher: Array) -> Array:
    """How the distances between pictures differ; `[B, C]` of the whole batch, C need not agree.

    L_i = 1/B sum_j huber(|s_i - s_j| / mu_s - |t_i - t_j| / mu_t)      (RKD, Park et al. 2019)

    mu is the mean over the B (B - 1) pairs of different pictures. The pairs i = j are 0 and count in 1/B, as in the
    authors' code, so that the mean over i is its mean over the matrix; the paper has the sum. 0 for one picture.
    """
    student, teacher = (_norm(_differences(x)) for x in _float32(student, teacher))
    return jnp.mean(optax.losses.huber_loss(_over_mean(student), _over_mean(teacher)), axis=-1)


def relational_angle(student: Array, teacher: Array) -> Array:
    """How the angles between triplets of pictures differ; `[B, C]` of the whole batch, C need not agree.

    L_i = 1/B^2 sum_jk huber(cos(s_j, s_i, s_k) - cos(t_j, t_i, t_k))      (RKD, Park et al. 2019)

    The angle is at picture i. Triplets with two equal pictures are 0 and count in 1/B^2, as in the authors' code, so
    that the mean over i is its mean over all triplets; the paper has the sum. 0 for one picture.
    """
    sides = (_unit(_differences(x)) for x in _float32(student, teacher))
    student, teacher = (jnp.einsum("ijc,ikc->ijk", x, x, precision=_HIGHEST) for x in sides)
    return jnp.mean(optax.losses.huber_loss(student, teacher), axis=(1, 2))


def batch_spectral_shrinkage(student: Array, *, k: int = 1) -> Array:
    """The k smallest squared singular values of the features `[B, C]` of the whole batch; needs no teacher.

    L = sum of sigma_j^2 over the k smallest of the min(B, C)      (BSS, Chen et al. 2019)

    The batch has one value; all B rows of the result hold it. It is a Rayleigh quotient of the Gram matrix's
    eigenvectors, which are held constant: value and gradient are those of the singular values themselves, but finite
    where these repeat. In float32 it is good to 0.1 % while the largest is less than 300 times the smallest.
    """
    (features,) = _float32(student)
    if features.shape[0] > features.shape[1]:
        features = features.T
    gram = jnp.matmul(features, features.T, precision=_HIGHEST)
    vectors = jnp.linalg.eigh(jax.lax.stop_gradient(gram)).eigenvectors[:, :k]
    value = jnp.sum(jnp.matmul(vectors.T, features, precision=_HIGHEST) ** 2)
    return jnp.full(student.shape[0], value)


def supervised_contrastive(features: Array, labels: Array, *, temperature: float) -> Array:
    """How little a picture's features tell which domain it is from; `[B, C]` and `[B]` of the whole batch; no teacher.

    L_i = -1/|P_i| sum_{p in P_i} log( exp(z_i.z_p / T) / sum_{a != i} exp(z_i.z_a / T) ),   z = f / |f|
    (Khosla et al. 2020, arXiv 2004.11362, Eq. 2, L_out; Boutillon et al. 2021 name the term, with domains as labels)

    P_i are the other pictures with the label of i; where there is none, L_i = 0. The authors' code multiplies by
    T / 0.07. Not 0 at its lowest, where a domain's features are one point and the domains lie apart.
    """
    (features,) = _float32(features)
    features = _unit(features)
    itself = jnp.eye(len(features), dtype=bool)
    logits = jnp.matmul(features, features.T, precision=_HIGHEST) / temperature
    log_share = logits - jax.nn.logsumexp(jnp.where(itself, -1e9, logits), axis=1, keepdims=True)
    positive = (labels[:, None] == labels) & ~itself
    return -jnp.sum(jnp.where(positive, log_share, 0.0), axis=1) / jnp.maximum(positive.sum(axis=1), 1)


def l2_sp(params: Params, start: Params) -> Array:
    """Decay towards the parameters that the student started from, two trees of equal structure and shapes; a scalar.

    L = 1/2 ||w - w0||_2^2      (L2-SP, Li et al. 2018)
    """
    return l2(jax.tree.map(lambda w, w0: w - jax.lax.stop_gradient(w0), params, start))


def l2(params: Params) -> Array:
    """Decay of the parameters that have no start, such as the decoder's; a scalar.

    L = 1/2 ||w||_2^2      (L2-SP, Li et al. 2018)
    """
    return 0.5 * sum((jnp.sum(w.astype("float32") ** 2) for w in jax.tree.leaves(params)), jnp.float32(0))


def delta(student: Array, teacher: Array, channel_weights: ArrayLike) -> Array:
    """Squared error between maps, weighted by channel; `channel_weights`, see `channel_importance`, is `[C]`, sum 1.

    L_i = 1/2 sum_c w_c C ||s_i,c - t_i,c||_2^2 / (h w)      (DELTA, Li et al. 2019)

    The factors are those of the authors' code, except that it sums over the batch.
    """
    _same_shape(student, teacher)
    student, teacher = _float32(student, teacher)
    channel_weights = jax.lax.stop_gradient(jnp.asarray(channel_weights, "float32"))
    return 0.5 * channel_weights.size * jnp.sum(channel_weights * _pool((student - teacher) ** 2), axis=-1)


def channel_importance(features: ArrayLike, heatmaps: ArrayLike, *, ridge: float = 0.1) -> np.ndarray:
    """DELTA's channel weights: how much worse the teacher's features serve the task without a channel.

    w = softmax(z / 5),  z the z-scores over c of  e_c = mean ||R + F_c W_c||^2 - mean ||R||^2
    (DELTA, Li et al. 2019; z / 5 as in the authors' code)

    A reconstruction for heatmaps: DELTA fits a classifier on frozen features and switches off one channel after the
    other. Here a linear head with intercept is fitted by ridge regression, F W + b to the heatmaps at each place with
    residual R = H - F W - b, and F_c W_c is what channel c adds.

    Args:
      features: `[N, h, w, C]`, the teacher's. More than 20000 places are sampled (seeded).
      heatmaps: `[N, h, w, K]`, drawn at that resolution.
      ridge: penalty on ||W||^2, as a fraction of the mean variance of a channel; above 0.

    Returns:
      `[C]` float64, sum 1.
    """
    F, H = (np.asarray(x).reshape(-1, np.shape(x)[-1]) for x in (features, heatmaps))
    if len(F) > 20_000:
        places = np.random.default_rng(0).choice(len(F), 20_000, replace=False)
        F, H = F[places], H[places]
    F, H = F.astype("float64"), H.astype("float64")
    centred = F - F.mean(0)
    gram = centred.T @ centred
    penalty = ridge * (np.trace(gram) / len(gram) or 1.0)  # features that never change: any penalty gives W = 0
    W = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T @ H)
    R = H - H.mean(0) - centred @ W
    importance = (2 * np.sum((F.T @ R) * W, axis=1) + np.sum(F**2, axis=0) * np.sum(W**2, axis=1)) / H.size
    z = (importance - importance.mean()) / (importance.std() or 1.0)
    softmax = np.exp((z - z.max()) / 5)
    return softmax / softmax.sum()


def _same_shape(student: Array, teacher: Array, axes: slice = slice(None), what: str = "shape") -> None:
    if student.shape[axes] != teacher.shape[axes]:
        raise UserError(
            f"the constraint ties features of equal {what}, but the student's are {student.shape} and the teacher's "
            f"{teacher.shape}; choose other layers, or a teacher of the student's architecture"
        )


def _float32(student: Array, *teacher: Array) -> list[Array]:
    return [student.astype("float32"), *(jax.lax.stop_gradient(x.astype("float32")) for x in teacher)]


def _pool(maps: Array) -> Array:
    """`[B, C]`, the mean over places."""
    return jnp.mean(maps, axis=tuple(range(1, maps.ndim - 1)))


def _spatial_attention(maps: Array) -> Array:
    """`[B, h w]`, sum of squares over channels, of length 1."""
    return _unit(jnp.sum(maps**2, axis=-1).reshape(maps.shape[0], -1))


def _differences(vectors: Array) -> Array:
    """`[B, B, C]`, from i to j."""
    return vectors[None] - vectors[:, None]


def _over_mean(distances: Array) -> Array:
    """Distances in units of their mean over different pictures."""
    mean = jnp.sum(distances) / max(len(distances) * (len(distances) - 1), 1)
    return distances / jnp.where(mean > 0, mean, 1.0)


def _norm(vectors: Array, *, below: float = 1e-12) -> Array:
    """Length along the last axis; 0, and so is its gradient, where it is less than `below`."""
    square = jnp.sum(vectors**2, axis=-1)
    counts = square > below**2
    return jnp.where(counts, jnp.sqrt(jnp.where(counts, square, 1.0)), 0.0)


def _unit(vectors: Array) -> Array:
    """Vectors of length 1; those shorter than 1e-12 stay as they are."""
    norm = _norm(vectors)[..., None]
    return vectors / jnp.where(norm > 0, norm, 1.0)
