"""Words that no free text may hold, and words that only look like them."""

import pytest

from app.telling import tells


@pytest.mark.parametrize(
    "words",
    [
        "怀孕停检，绝育手术住院",
        "怀孕，已辞退",
        "本人住院手术",
        "孕检抽奖（查环后领取）",
        "结扎手术补贴",
        "妇科人流手术站",
        "怀孕育儿中",
        "查 环",
        "孕\u200b检",
        "上环一年",
        "做人流后休息",
        "流产休息",
        "结果：阴性",
        "检查结果不好",
        "避孕药领取",
        "确诊后未到",
        "H C G 检测",
        "血ＨＣＧ高",
        "放置IUD",
        "pregnancy test",
        "she miscarried",
        "after surgery",
        "查環", "上環一年", "四術", "輸卵管", "結紮手術", "懷孕", "流產休息", "檢查結果", "宮頸",
        "婦檢", "確診", "絕育", "住院觀察", "備孕中", "墮胎",
        "uterus", "Uterine", "HPV", "h p v 疫苗", "HPV16", "两癌筛查", "兩癌篩查", "乳腺癌",
        "yunjian", "Yun Jian", "yùnjiǎn", "去chahuan", "huaiyun", "jieza", "JIEZHA 补贴",
    ],
)  # fmt: skip
def test_what_tells_is_seen(words: str) -> None:
    assert tells(words)


@pytest.mark.parametrize(
    "words",
    [
        "环市东路", "桂城街道环岛", "检查环境卫生", "发放环保袋", "检查环节有误", "路上环市塞车",
        "花环", "连环画", "环卫工礼包", "领取环球牌毛巾", "物流产业园", "主流产品", "物流产品园",
        "客流产生的收入", "人流量大", "工人流动大", "客人流失", "工人流程不熟", "人流密集",
        "手术语", "孕育文化", "夕阳红合唱", "A、B超市联谊", "妇幼保健院", "计划生育协会",
        "检查账户", "账户已销户", "查无此户", "个人原因", "金额小，不再追回", "住院部旁", "受潮",
        "檢查環境衛生", "環市東路", "路上環島", "物流產業園", "主流產品", "人流動線", "手術語",
        "花環", "環衛工禮包", "查無此戶", "婦幼保健院",
        "yunjiang", "Huaiyuan", "huaiyunlu", "chahuang", "jiezhang", "Jiezhao", "mhpvc", "Yunnan",
        "nudge", "in the studio", "9Hhcgx/Q", "a hospitable host",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_passes(words: str) -> None:
    assert not tells(words)


def test_a_lecture_has_topics_and_nobody_s_check() -> None:
    assert not tells("女性两癌防治讲座", before_an_audience=True)
    assert tells("兩癌篩查講座", before_an_audience=True)
    assert not tells("优生与避孕知识讲座", before_an_audience=True)
    assert tells("孕期检查", before_an_audience=True)
    assert tells("优生与避孕知识讲座")
