//! Units and currencies, and what they are called.

/// The symbol of a unit and how far its name reaches: in words from its first.
///
/// Names that are short or mean other things too count only behind a figure. **Source:** BIPM, The International System of
/// Units, for symbols; customary ones for the rest. Years, months, weeks and days keep their names.
pub(super) fn unit(
    first: &str,
    second: &str,
    third: &str,
    is_figure: bool,
) -> Option<(&'static str, usize)> {
    let squared = matches!(first, "square" | "sq" | "cubic");
    if squared {
        return compound(first, second, third);
    }
    let rate = |slash: bool| match (slash, second, third) {
        (true, "/", "h" | "hr" | "hour") | (false, "per", "hour") => Some("h"),
        (true, "/", "s" | "sec") | (false, "per", "second") => Some("s"),
        _ => None,
    };
    let per = rate(true).or_else(|| rate(false));
    let symbol = match first {
        "km" | "kilometre" | "kilometres" | "kilometer" | "kilometers" => match per {
            Some("h") => return Some(("km/h", 3)),
            Some(_) => return Some(("km/s", 3)),
            None => "km",
        },
        "m" | "metre" | "metres" | "meter" | "meters" => match per {
            Some("s") => return Some(("m/s", 3)),
            Some(_) => return Some(("m/h", 3)),
            None => "m",
        },
        "mile" | "miles" | "mi" if per == Some("h") => return Some(("mph", 3)),
        "feet" | "ft" if per == Some("s") => return Some(("ft/s", 3)),
        "degree" | "degrees" | "°" => {
            return match second {
                "Celsius" | "centigrade" | "C" => Some(("°C", 2)),
                "Fahrenheit" | "F" => Some(("°F", 2)),
                _ => None,
            };
        }
        "cm" | "centimetre" | "centimetres" | "centimeter" | "centimeters" => "cm",
        "mm" | "millimetre" | "millimetres" | "millimeter" | "millimeters" => "mm",
        "nm" | "nanometre" | "nanometres" | "nanometer" | "nanometers" => "nm",
        "mile" | "miles" | "mi" => "mi",
        "foot" | "feet" | "ft" => "ft",
        "inch" | "inches" => "in",
        "yard" | "yards" | "yd" => "yd",
        "hectare" | "hectares" | "ha" => "ha",
        "acre" | "acres" => "acre",
        "km2" | "km²" => "km2",
        "m2" | "m²" => "m2",
        "cm2" | "cm²" => "cm2",
        "m3" | "m³" => "m3",
        "km3" | "km³" => "km3",
        "mi2" | "mi²" => "mi2",
        "kg" | "kilogram" | "kilograms" | "kilogrammes" | "kilo" | "kilos" => "kg",
        "g" | "gram" | "grams" | "grammes" => "g",
        "mg" | "milligram" | "milligrams" => "mg",
        "tonne" | "tonnes" | "metric" if first != "metric" || second.starts_with("ton") => {
            return Some(("t", 1 + usize::from(first == "metric")));
        }
        "ton" | "tons" => "ton",
        "lb" | "lbs" | "pound" | "pounds" => "lb",
        "ounce" | "ounces" | "oz" => "oz",
        "mph" => "mph",
        "kph" | "kmh" => "km/h",
        "knot" | "knots" => "kn",
        "litre" | "litres" | "liter" | "liters" | "l" | "L" => "L",
        "ml" | "millilitre" | "millilitres" | "milliliter" | "milliliters" => "mL",
        "gallon" | "gallons" => "gal",
        "barrel" | "barrels" => "bbl",
        "W" | "watt" | "watts" => "W",
        "kW" | "kilowatt" | "kilowatts" => "kW",
        "MW" | "megawatt" | "megawatts" => "MW",
        "GW" | "gigawatt" | "gigawatts" => "GW",
        "kWh" => "kWh",
        "MWh" => "MWh",
        "GWh" => "GWh",
        "TWh" => "TWh",
        "hp" | "horsepower" | "bhp" => "hp",
        "V" | "volt" | "volts" => "V",
        "kV" | "kilovolt" | "kilovolts" => "kV",
        "Hz" | "hertz" => "Hz",
        "kHz" | "kilohertz" => "kHz",
        "MHz" | "megahertz" => "MHz",
        "GHz" | "gigahertz" => "GHz",
        "bit" | "bits" => "bit",
        "byte" | "bytes" => "B",
        "kB" | "KB" | "kilobyte" | "kilobytes" => "kB",
        "MB" | "megabyte" | "megabytes" => "MB",
        "GB" | "gigabyte" | "gigabytes" => "GB",
        "TB" | "terabyte" | "terabytes" => "TB",
        "PB" | "petabyte" | "petabytes" => "PB",
        "century" | "centuries" => "century",
        "decade" | "decades" => "decade",
        "year" | "years" | "yr" | "yrs" => "year",
        "month" | "months" => "month",
        "week" | "weeks" => "week",
        "day" | "days" => "day",
        "hour" | "hours" | "h" | "hr" | "hrs" => "h",
        "minute" | "minutes" | "min" | "mins" => "min",
        "second" | "seconds" | "sec" | "secs" => "s",
        "millisecond" | "milliseconds" | "ms" => "ms",
        _ => return None,
    };
    // "one second place", "two h": behind a word, a symbol is none.
    (is_figure || first.len() > 2 && first != "second").then_some((symbol, 1))
}

fn compound(first: &str, second: &str, third: &str) -> Option<(&'static str, usize)> {
    // `sq. mi`
    let (noun, words) = if second == "." {
        (third, 3)
    } else {
        (second, 2)
    };
    let cubic = first == "cubic";
    Some((
        match (noun, cubic) {
            ("mile" | "miles" | "mi", false) => "mi2",
            ("mile" | "miles", true) => "mi3",
            ("km" | "kilometre" | "kilometres" | "kilometer" | "kilometers", false) => "km2",
            ("km" | "kilometre" | "kilometres" | "kilometer" | "kilometers", true) => "km3",
            ("m" | "metre" | "metres" | "meter" | "meters", false) => "m2",
            ("metre" | "metres" | "meter" | "meters", true) => "m3",
            ("foot" | "feet" | "ft", false) => "ft2",
            ("foot" | "feet" | "ft", true) => "ft3",
            ("yard" | "yards" | "yd", false) => "yd2",
            ("yard" | "yards", true) => "yd3",
            ("inch" | "inches", false) => "in2",
            ("inch" | "inches", true) => "in3",
            ("cm" | "centimetre" | "centimetres" | "centimeter" | "centimeters", false) => "cm2",
            ("cm" | "centimetre" | "centimetres" | "centimeter" | "centimeters", true) => "cm3",
            _ => return None,
        },
        words,
    ))
}

/// The code of a currency that stands before its amount as a sign. A bare `$` is the United States'.
///
/// **Source:** ISO 4217.
pub(super) fn sign(sign: &str, before: &str) -> Option<&'static str> {
    Some(match sign {
        "$" => match before {
            "A" | "AU" => "AUD",
            "C" | "CA" | "CAD" => "CAD",
            "NZ" => "NZD",
            "HK" => "HKD",
            "S" | "SG" => "SGD",
            "R" => "BRL",
            "NT" => "TWD",
            _ => "USD",
        },
        "€" => "EUR",
        "£" => "GBP",
        "¥" => "JPY",
        "₹" => "INR",
        "₽" => "RUB",
        "₩" => "KRW",
        "₺" => "TRY",
        "₪" => "ILS",
        "₫" => "VND",
        "₦" => "NGN",
        "₴" => "UAH",
        "฿" => "THB",
        _ => return None,
    })
}

/// The code, if `word` is one that is in wide use.
pub(super) fn code(word: &str) -> Option<&'static str> {
    const CODES: [&str; 26] = [
        "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "CNY", "INR", "RUB", "BRL", "ZAR",
        "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "TRY", "KRW", "HKD", "SGD", "MXN", "ILS", "THB",
    ];
    CODES.into_iter().find(|code| *code == word)
}

/// The code of a currency by its name, and how many words that takes.
pub(super) fn currency(first: &str, second: &str, third: &str) -> Option<(&'static str, usize)> {
    let dollars = |word: &str| matches!(word, "dollar" | "dollars");
    if let Some(code) = code(first) {
        return Some((code, 1));
    }
    Some(match (first, second) {
        (word, _) if dollars(word) => ("USD", 1),
        ("euro" | "euros", _) => ("EUR", 1),
        ("yen", _) => ("JPY", 1),
        ("rupee" | "rupees", _) => ("INR", 1),
        ("yuan" | "renminbi", _) => ("CNY", 1),
        ("ruble" | "rubles" | "rouble" | "roubles", _) => ("RUB", 1),
        ("pound" | "pounds", "sterling") | ("British", "pound" | "pounds") => ("GBP", 2),
        ("Swiss", "franc" | "francs") => ("CHF", 2),
        ("US" | "American", word) if dollars(word) => ("USD", 2),
        ("Canadian", word) if dollars(word) => ("CAD", 2),
        ("Australian", word) if dollars(word) => ("AUD", 2),
        ("Hong", "Kong") if dollars(third) => ("HKD", 3),
        ("New", "Zealand") if dollars(third) => ("NZD", 3),
        ("Swedish", "kronor" | "krona") => ("SEK", 2),
        ("Norwegian", "kroner" | "krone") => ("NOK", 2),
        ("Danish", "kroner" | "krone") => ("DKK", 2),
        _ => return None,
    })
}
