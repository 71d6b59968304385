process ZFLIPON_ANNOTATE {
    tag "${meta.id}${part ? " ${part}" : ''}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ task.accelerator ? 'zflipon:cuda' : 'zflipon:cpu' }"

    input:
    tuple val(meta), path(fasta), val(part)

    output:
    tuple val(meta), path("*.zfp")   , emit: part, optional: true
    tuple val(meta), path("*.bw")    , emit: bigwig, optional: true
    tuple val(meta), path("*.bed.gz"), emit: calls, optional: true
    tuple val(meta), path("*.tbi")   , emit: index, optional: true
    tuple val(meta), path("*.json")  , emit: record, optional: true
    tuple val("${task.process}"), val('zflipon'), eval("zflipon --version | sed 's/^zflipon //'"), topic: versions, emit: versions_zflipon

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def outputs = part
        ? "--part ${part} --output ${prefix}.${part.replace('/', '_of_')}.zfp"
        : "--output ${prefix}.bw --output ${prefix}.bed.gz"
    """
    zflipon annotate \\
        ${fasta} \\
        ${outputs} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    def outputs = part
        ? "touch ${prefix}.${part.replace('/', '_of_')}.zfp"
        : "touch ${prefix}.bw ${prefix}.bw.json ${prefix}.bed.gz.json ${prefix}.bed.gz.tbi; echo '' | gzip > ${prefix}.bed.gz"
    """
    ${outputs}
    """
}
