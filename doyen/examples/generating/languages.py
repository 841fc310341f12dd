"""How seven languages ask: question words, definitions, statements to confirm. Written for this project; no grammar."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Language:
    """The words of one language that the rules need.

    `order`: where the question word goes. "front": before the clause as it is (Romance); "second": before the finite
    verb, which must be one of `verbs` (German, Dutch); English has its own module.
    """

    many: str
    much: str
    share: str
    when: str
    year: str
    who: str
    what: str
    ask: str
    tell: str
    define: tuple[str, ...]
    mean: str
    copula: str
    means: str
    cell: tuple[str, ...]
    about: tuple[str, ...]
    true: str
    at: frozenset[str]
    pronouns: frozenset[str]
    order: str = "front"
    verbs: frozenset[str] = field(default_factory=frozenset)
    number_words: str = ""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


LANGUAGES: dict[str, Language] = {
    "en": Language(
        many="how many {}",
        much="how much",
        share="what percentage",
        when="when",
        year="in what year",
        who="who",
        what="what",
        ask="{}?",
        tell="Tell me {}.",
        define=("What is {x}?", "How is {x} described?", "Explain what {x} is."),
        mean="What does {x} mean?",
        copula=r"(?:is|are|was|were) (?=(?:an?|the|any|one|every|someone|something|when|all) )",
        means=r"(?:means|refers to|stands for|denotes|is defined as) ",
        cell=("What is the {column} of {row}?", "{row}: what is the {column}?"),
        about=('What does "{title}" say about {heading}?', "{title}: what is said about {heading}?"),
        true="Is this right: {}?",
        at=_set("in on at by since during until from around before after about of"),
        pronouns=_set("he she it they this that these those his her its their such here there"),
    ),
    "de": Language(
        many="wie viele {}",
        much="wie viel",
        share="wie viel Prozent",
        when="wann",
        year="in welchem Jahr",
        who="wer",
        what="was",
        ask="{}?",
        tell="",
        define=("Was ist {x}?", "Wie wird {x} erklärt?"),
        mean="Was bedeutet {x}?",
        copula=r"(?:ist|sind|war|waren) (?=(?:ein|eine|der|die|das|jede|jeder|jedes|alle) )",
        means=r"(?:bedeutet|bezeichnet|heißt) ",
        cell=("Wie lautet {column} bei {row}?", "{row}: welcher Wert steht unter {column}?"),
        about=('Was steht in "{title}" über {heading}?', "{title}: Was gilt für {heading}?"),
        true="Stimmt das: {}?",
        at=_set("im in am an um ab bis seit vor nach von vom zum"),
        pronouns=_set("er sie es dies diese dieser dieses das sein seine ihr ihre solche dort hier dabei"),
        order="second",
        verbs=_set(
            "ist sind war waren wird werden wurde wurden hat haben hatte hatten kann können konnte muss müssen soll "
            "sollen darf dürfen gilt gelten beträgt betragen kostet kosten dauert dauern liegt liegen steht stehen "
            "beginnt endet öffnet schließt braucht erhält bekommt zahlt zahlen umfasst enthält wiegt hebt bietet gibt "
            "heißt gehört gehören bleibt entstand begann starb lebte gründete baute trägt leitet"
        ),
    ),
    "nl": Language(
        many="hoeveel {}",
        much="hoeveel",
        share="welk percentage",
        when="wanneer",
        year="in welk jaar",
        who="wie",
        what="wat",
        ask="{}?",
        tell="",
        define=("Wat is {x}?", "Wat verstaat men onder {x}?"),
        mean="Wat betekent {x}?",
        copula=r"(?:is|zijn|was|waren) (?=(?:een|de|het|elke|elk|alle) )",
        means=r"(?:betekent|verwijst naar|staat voor) ",
        cell=("Wat is {column} van {row}?", "{row}: wat staat er bij {column}?"),
        about=('Wat zegt "{title}" over {heading}?', "{title}: wat geldt voor {heading}?"),
        true="Klopt dit: {}?",
        at=_set("in op om vanaf tot sinds voor na van"),
        pronouns=_set("hij zij ze het dit dat deze die zijn haar hun daar hier zulke"),
        order="second",
        verbs=_set(
            "is zijn was waren wordt worden werd werden heeft hebben had hadden kan kunnen moet moeten mag mogen geldt "
            "bedraagt kost kosten duurt ligt staat begint eindigt opent sluit krijgt betaalt omvat bevat weegt biedt "
            "geeft heet blijft"
        ),
    ),
    "fr": Language(
        many="combien de {}",
        much="combien",
        share="quel pourcentage",
        when="quand",
        year="en quelle année",
        who="qui",
        what="quoi",
        ask="{} ?",
        tell="Dites-moi {}.",
        define=("Qu'est-ce que {x} ?", "Comment définit-on {x} ?"),
        mean="Que signifie {x} ?",
        copula=r"(?:est|sont|était|étaient) (?=(?:une?|le|la|les|tout|toute) |l['’])",
        means=r"(?:signifie|désigne|correspond à) ",
        cell=("Quelle est la valeur « {column} » pour {row} ?", "{row} : que vaut « {column} » ?"),
        about=("Que dit « {title} » sur {heading} ?", "{title} : que prévoit-on pour {heading} ?"),
        true="Est-ce exact : {} ?",
        at=_set("en à au dès depuis vers le la pendant jusqu'en du de"),
        pronouns=_set("il elle ils elles ce cet cette ces cela ceci son sa ses leur leurs tel tels"),
    ),
    "es": Language(
        many="cuántos {}",
        much="cuánto",
        share="qué porcentaje",
        when="cuándo",
        year="en qué año",
        who="quién",
        what="qué",
        ask="¿{}?",
        tell="Dígame {}.",
        define=("¿Qué es {x}?", "¿Cómo se define {x}?"),
        mean="¿Qué significa {x}?",
        copula=r"(?:es|son|era|fue) (?=(?:una?|el|la|los|las|cada|todo) )",
        means=r"(?:significa|se refiere a|designa) ",
        cell=("¿Cuál es el valor de {column} de {row}?", "{row}: ¿qué figura en {column}?"),
        about=("¿Qué dice «{title}» sobre {heading}?", "{title}: ¿qué se aplica a {heading}?"),
        true="¿Es cierto esto: {}?",
        at=_set("en a al desde hasta durante hacia el la de del"),
        pronouns=_set("él ella ellos ellas este esta esto estos estas ese esa eso su sus tal tales allí aquí"),
    ),
    "it": Language(
        many="quanti {}",
        much="quanto",
        share="quale percentuale",
        when="quando",
        year="in quale anno",
        who="chi",
        what="che cosa",
        ask="{}?",
        tell="Dimmi {}.",
        define=("Che cos'è {x}?", "Come si definisce {x}?"),
        mean="Che cosa significa {x}?",
        copula=r"(?:è|sono|era|fu) (?=(?:una?|uno|il|lo|la|i|gli|le|ogni) |(?:l|un)['’])",
        means=r"(?:significa|indica|si riferisce a) ",
        cell=("Qual è il valore di {column} per {row}?", "{row}: che cosa c'è in {column}?"),
        about=("Che cosa dice «{title}» su {heading}?", "{title}: che cosa vale per {heading}?"),
        true="È esatto: {}?",
        at=_set("in a al nel nella dal dalla il la l' durante verso fino di del"),
        pronouns=_set("egli ella esso essa essi esse questo questa questi queste quello quella suo sua suoi sue tale"),
    ),
    "pt": Language(
        many="quantos {}",
        much="quanto",
        share="que percentagem",
        when="quando",
        year="em que ano",
        who="quem",
        what="o que",
        ask="{}?",
        tell="Diga-me {}.",
        define=("O que é {x}?", "Como se define {x}?"),
        mean="O que significa {x}?",
        copula=r"(?:é|são|era|foi) (?=(?:uma?|o|a|os|as|cada|todo) )",
        means=r"(?:significa|refere-se a|designa) ",
        cell=("Qual é o valor de {column} de {row}?", "{row}: o que consta em {column}?"),
        about=("O que diz «{title}» sobre {heading}?", "{title}: o que se aplica a {heading}?"),
        true="Está certo: {}?",
        at=_set("em no na nos nas a ao à desde até durante por de do da"),
        pronouns=_set(
            "ele ela eles elas este esta isto estes estas esse essa isso seu sua seus suas tal tais ali aqui"
        ),
    ),
}


def is_supported_language(code: str) -> bool:
    """Whether questions can be worded in a language; of others, only tables and gaps are asked."""
    return code in LANGUAGES
