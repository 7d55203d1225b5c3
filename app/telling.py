"""Words that tell what is done at a health check, what was found, or how somebody's body is."""

import re
import unicodedata

# Not within longer words of other things: 孕育文化, 检查环境, 物流产业园, 工人流动, A、B超市.
_WORDS = re.compile(
    "孕(?!育)|[怀受备避停未已]孕|妊娠|怀胎|保胎|堕胎|打胎|胎儿|产检|产假|分娩|引产|坐月子"
    "|绝育|节育|结扎|四术|(?<![物主])流产(?![业品生值能])|人流(?![量水失动程转向密高大太较])"
    "|妇科|妇检|子宫|宫颈|宫外|卵巢|输卵管|输精管|月经|停经"
    "|癌|[查上取放戴]环(?![保境卫岛路城市节形球比绕])|环检"
    "|B超(?![市越])|彩超|尿检|化验|诊断|确诊|阳性|阴性|住院(?![部楼])|手术(?!语)"
    "|[检体]查结果|检验结果|体检结果"
    "|pregnan|miscarr|contracep|sterili[sz]|abortion|vasectom|gyna?ec|ultrasound|surgery"
    "|hospitali[sz]|uterus|uterine",
    re.IGNORECASE,
)
# Joined to their neighbours they stand in other words.
_ALONE = re.compile(
    r"(?<![a-z])(?:I\W?U\W?Ds?|h\W?c\W?g|h\W?p\W?v"
    r"|yun[\s'’-]?jian|cha[\s'’-]?huan|huai[\s'’-]?yun|jie[\s'’-]?zh?a)(?![a-z])",
    re.IGNORECASE,
)
# Traditional letters that these words are written with, and those by which others are told apart.
_SIMPLIFIED = str.maketrans(
    "懷備姙墮兒產絕節結紮術婦宮頸輸經環檢驗診斷確陽陰體衛島繞業動轉較樓語兩篩",
    "怀备妊堕儿产绝节结扎术妇宫颈输经环检验诊断确阳阴体卫岛绕业动转较楼语两筛",
)
# What is spoken of before an audience says nothing of those who listen.
_TOPIC = re.compile("(避孕|孕期|孕产|孕妇|备孕|[两防抗]癌)(?![检查环筛])")


def tells(words: str, *, before_an_audience: bool = False) -> bool:
    """Tell whether words name a procedure, a condition or a finding.

    Wide and traditional letters, blanks and marks between them or on them hide nothing. What is
    spoken of `before_an_audience` may have contraception as its topic, or cancer.
    """
    letters = unicodedata.normalize("NFKD", words)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    joined = "".join(letter for letter in plain if letter.isalnum()).translate(_SIMPLIFIED)
    if before_an_audience:
        joined = _TOPIC.sub("", joined)
    return bool(_WORDS.search(joined) or _ALONE.search(plain))
