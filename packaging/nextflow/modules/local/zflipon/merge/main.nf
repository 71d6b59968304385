process ZFLIPON_MERGE {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "zflipon:cpu"

    input:
    tuple val(meta), path(parts)

    output:
    tuple val(meta), path("*.bw")    , emit: bigwig
    tuple val(meta), path("*.bed.gz"), emit: calls
    tuple val(meta), path("*.tbi")   , emit: index
    tuple val(meta), path("*.json")  , emit: record
    tuple val("${task.process}"), val('zflipon'), eval("zflipon --version | sed 's/^zflipon //'"), topic: versions, emit: versions_zflipon

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    zflipon merge \\
        ${parts} \\
        --output ${prefix}.bw \\
        --output ${prefix}.bed.gz \\
        ${args}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.bw ${prefix}.bw.json ${prefix}.bed.gz.json ${prefix}.bed.gz.tbi
    echo '' | gzip > ${prefix}.bed.gz
    """
}
